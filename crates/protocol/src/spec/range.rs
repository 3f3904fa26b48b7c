//! Ranges of decimal numbers, counted exactly: `[0.1, 0.3, 0.1]` is 0.1, 0.2 and 0.3.

use super::parameters::MAX_VALUES;

/// The numbers from the first to the second of `range`, both included, by steps of the third (1 if absent), each
/// with as many decimals as the most precise of first and step.
pub(super) fn range_values(range: &[String]) -> Result<Vec<String>, String> {
    let one = "1".to_owned();
    let [from, to, step] = match range {
        [from, to] => [from, to, &one],
        [from, to, step] => [from, to, step],
        _ => return Err("a range is [from, to] or [from, to, step]".to_owned()),
    };
    let decimals = decimals_of(from).max(decimals_of(step));
    let scale = decimals.max(decimals_of(to));
    let [from, to, step] = [scaled(from, scale)?, scaled(to, scale)?, scaled(step, scale)?];
    if step == 0 {
        return Err("the step of a range must not be 0".to_owned());
    }
    if (to - from) * step.signum() < 0 {
        return Err("the step leads away from the end of the range".to_owned());
    }
    let count = (to - from) / step + 1;
    if count > MAX_VALUES as i128 {
        return Err(format!("the range has {count} values, more than {MAX_VALUES}"));
    }
    Ok((0..count).map(|number| decimal(from + number * step, scale, decimals)).collect())
}

/// Most digits on either side of the point: products and differences stay far inside an `i128`.
const MAX_DIGITS: usize = 15;

fn decimals_of(number: &str) -> usize {
    number.split_once('.').map_or(0, |(_, decimals)| decimals.len())
}

/// `number` times 10 to the power of `scale`.
fn scaled(number: &str, scale: usize) -> Result<i128, String> {
    let bad =
        || format!("'{number}' is not a plain decimal number of at most {MAX_DIGITS} digits on each side");
    let digits = number.strip_prefix('-').unwrap_or(number);
    let (whole, decimals) = digits.split_once('.').unwrap_or((digits, ""));
    let is_number = |text: &str| text.len() <= MAX_DIGITS && text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty()
        || !is_number(whole)
        || !is_number(decimals)
        || (digits.contains('.') && decimals.is_empty())
    {
        return Err(bad());
    }
    let value: i128 = format!("{whole}{decimals}").parse().map_err(|_| bad())?;
    // Another number of the range may have more decimals than this one has.
    let missing = u32::try_from(scale - decimals.len()).map_err(|_| bad())?;
    let value = 10i128.checked_pow(missing).and_then(|power| value.checked_mul(power)).ok_or_else(bad)?;
    Ok(if number.starts_with('-') { -value } else { value })
}

/// A number that was scaled by `scale`, with `decimals` of its digits after the point.
fn decimal(scaled: i128, scale: usize, decimals: usize) -> String {
    let sign = if scaled < 0 { "-" } else { "" };
    let digits = format!("{:0width$}", scaled.unsigned_abs(), width = scale + 1);
    let (whole, rest) = digits.split_at(digits.len() - scale);
    if decimals == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{}", &rest[..decimals]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_belong_to_a_range() {
        let check = |range: &[&str], expect: &[&str]| {
            let range: Vec<String> = range.iter().map(|number| (*number).to_owned()).collect();
            assert_eq!(range_values(&range).expect("a range"), expect, "{range:?}");
        };
        check(&["1", "3"], &["1", "2", "3"]);
        check(&["255", "325", "10"], &["255", "265", "275", "285", "295", "305", "315", "325"]);
        check(&["0.1", "0.3", "0.1"], &["0.1", "0.2", "0.3"]);
        check(&["0", "1", "0.25"], &["0.00", "0.25", "0.50", "0.75", "1.00"]);
        check(&["1", "2.5"], &["1", "2"]);
        check(&["1", "1"], &["1"]);
        check(&["2", "-1", "-1.5"], &["2.0", "0.5", "-1.0"]);
        check(&["-0.05", "0.05", "0.05"], &["-0.05", "0.00", "0.05"]);
    }

    #[test]
    fn ranges_that_are_none() {
        let check = |range: &[&str], expect: &str| {
            let range: Vec<String> = range.iter().map(|number| (*number).to_owned()).collect();
            assert_eq!(range_values(&range), Err(expect.to_owned()), "{range:?}");
        };
        check(&["1", "3", "0"], "the step of a range must not be 0");
        check(&["1", "3", "-1"], "the step leads away from the end of the range");
        check(&["3", "1"], "the step leads away from the end of the range");
        check(&["1", "2000000"], "the range has 2000000 values, more than 1000000");
        for bad in ["1e3", "x", "", "1.", ".5", "--1", "nan", "1234567890123456", "0.1234567890123456"] {
            let message = format!("'{bad}' is not a plain decimal number of at most 15 digits on each side");
            check(&[bad, "3"], &message);
        }
    }
}
