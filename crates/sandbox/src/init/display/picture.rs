//! How a window looked, as a small PNG file.

use miniz_oxide::deflate::compress_to_vec_zlib;

use crate::exit::MAX_PICTURE;

/// Bytes per pixel as the server gives them (blue, green, red, nothing), and as a PNG file has them.
const SERVER_PIXEL: usize = 4;
const FILE_PIXEL: usize = 3;

/// Level 6 is what most programs use: dialogs are flat and compress well at any.
const LEVEL: u8 = 6;

/// A picture in red, green and blue.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Picture {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Picture {
    /// From the bytes of a GetImage reply with 32 bits per pixel; nothing when they are not as many as they should.
    pub(super) fn from_server(width: u16, height: u16, bytes: &[u8]) -> Option<Self> {
        let (width, height) = (usize::from(width), usize::from(height));
        if width == 0 || height == 0 || bytes.len() != width * height * SERVER_PIXEL {
            return None;
        }
        let pixels =
            bytes.chunks_exact(SERVER_PIXEL).flat_map(|pixel| [pixel[2], pixel[1], pixel[0]]).collect();
        Some(Picture { width, height, pixels })
    }

    /// A PNG file of at most [`MAX_PICTURE`] bytes: at half the size, or a quarter, until it fits.
    pub(super) fn to_png(&self) -> Vec<u8> {
        let file = self.encode();
        if file.len() <= MAX_PICTURE { file } else { self.halved().to_png() }
    }

    fn row(&self, y: usize) -> &[u8] {
        let length = self.width * FILE_PIXEL;
        &self.pixels[y * length..(y + 1) * length]
    }

    /// Every other pixel of every other line.
    fn halved(&self) -> Picture {
        let (width, height) = (self.width.div_ceil(2), self.height.div_ceil(2));
        let rows = (0..self.height).step_by(2).map(|y| self.row(y));
        let pixels =
            rows.flat_map(|row| row.chunks_exact(FILE_PIXEL).step_by(2).flatten().copied()).collect();
        Picture { width, height, pixels }
    }

    fn encode(&self) -> Vec<u8> {
        const NO_FILTER: u8 = 0;
        let side = |length: usize| u32::try_from(length).expect("it came as 16 bits").to_be_bytes();
        // 8 bits per channel, color without transparency, the only methods that there are, not interlaced.
        let header = [&side(self.width)[..], &side(self.height)[..], &[8, 2, 0, 0, 0]].concat();
        let mut lines = Vec::with_capacity(self.pixels.len() + self.height);
        for y in 0..self.height {
            lines.push(NO_FILTER);
            lines.extend_from_slice(self.row(y));
        }
        let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
        put_chunk(&mut file, b"IHDR", &header);
        put_chunk(&mut file, b"IDAT", &compress_to_vec_zlib(&lines, LEVEL));
        put_chunk(&mut file, b"IEND", &[]);
        file
    }
}

fn put_chunk(file: &mut Vec<u8>, name: &[u8; 4], body: &[u8]) {
    let length = u32::try_from(body.len()).expect("a picture with 16-bit sides is smaller once compressed");
    file.extend_from_slice(&length.to_be_bytes());
    let begin = file.len();
    file.extend_from_slice(name);
    file.extend_from_slice(body);
    let sum = crc32(&file[begin..]);
    file.extend_from_slice(&sum.to_be_bytes());
}

/// The checksum of PNG, a bit at a time: a picture is made once in a subjob's life, if at all.
fn crc32(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0xedb8_8320;
    let step = |sum: u32, _| if sum & 1 == 1 { (sum >> 1) ^ POLYNOMIAL } else { sum >> 1 };
    !bytes.iter().fold(!0, |sum, byte| (0..8).fold(sum ^ u32::from(*byte), step))
}

#[cfg(test)]
mod tests {
    use miniz_oxide::inflate::decompress_to_vec_zlib;

    use super::*;

    #[test]
    fn the_checksum_is_the_one_of_the_standard() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b"IEND"), 0xae42_6082);
    }

    /// Width, height and lines of a file as we write it.
    fn decode(file: &[u8]) -> (u32, u32, Vec<u8>) {
        let rest = file.strip_prefix(b"\x89PNG\r\n\x1a\n").unwrap();
        let number = |at: usize| u32::from_be_bytes(rest[at..at + 4].try_into().unwrap());
        assert_eq!((&rest[4..8], number(0)), (&b"IHDR"[..], 13));
        let length = usize::try_from(number(25)).unwrap();
        assert_eq!(&rest[29..33], b"IDAT");
        let lines = decompress_to_vec_zlib(&rest[33..33 + length]).unwrap();
        assert_eq!(&rest[33 + length + 4..][4..8], b"IEND");
        (number(8), number(12), lines)
    }

    #[test]
    fn a_picture_reads_back_as_it_was() {
        let bytes = [1, 2, 3, 0, 4, 5, 6, 0, 7, 8, 9, 255, 10, 11, 12, 0, 13, 14, 15, 0, 16, 17, 18, 0];
        let picture = Picture::from_server(3, 2, &bytes).unwrap();
        let lines = vec![0, 3, 2, 1, 6, 5, 4, 9, 8, 7, 0, 12, 11, 10, 15, 14, 13, 18, 17, 16];
        assert_eq!(decode(&picture.to_png()), (3, 2, lines));
        let halved = picture.halved();
        assert_eq!((halved.width, halved.height, halved.pixels), (2, 1, vec![3, 2, 1, 9, 8, 7]));
    }

    #[test]
    fn a_picture_too_large_is_made_smaller() {
        let mut state = 1_u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        };
        let bytes: Vec<u8> = (0..601 * 401 * 4).map(|_| noise()).collect();
        let file = Picture::from_server(601, 401, &bytes).unwrap().to_png();
        assert!(file.len() <= MAX_PICTURE);
        let (width, height, lines) = decode(&file);
        assert_eq!((width, height), (301, 201));
        assert_eq!(lines.len(), 201 * (1 + 301 * 3));
    }

    #[test]
    fn a_server_that_gives_too_little_or_too_much_gets_no_picture() {
        assert_eq!(Picture::from_server(2, 2, &[0; 15]), None);
        assert_eq!(Picture::from_server(2, 2, &[0; 17]), None);
        assert_eq!(Picture::from_server(0, 2, &[]), None);
        assert!(Picture::from_server(u16::MAX, u16::MAX, &[0; 16]).is_none());
    }
}
