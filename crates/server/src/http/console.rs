//! The console: jobs and clients as plain pages, for a browser without a script or anything from elsewhere.
//!
//! It only shows. A user logs in with a user token, which the browser then keeps as a cookie that no script and
//! no other site can use.

use std::fmt::Write as _;

use axum::Form;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use model::JobId;
use model::units::display_duration;
use protocol::api::{ClientView, JobView};
use protocol::token::{Token, TokenKind, decode_secret};
use serde::Deserialize;

use super::{App, Refused};
use crate::grid::{Caller, secret_hash};

const COOKIE: &str = "dcgrid";

/// Jobs on the first page.
const RECENT: usize = 100;

/// No script, no frame, nothing from elsewhere.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; \
                      base-uri 'none'";

const STYLE: &str = "body{font:15px system-ui,sans-serif;margin:2em auto;max-width:70em;padding:0 1em;\
color-scheme:light dark}table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.3em .6em;\
border-bottom:1px solid #8884}td.n{text-align:right}progress{width:9em}h1 a{color:inherit;text-decoration:none}";

/// A user whose browser has logged in.
pub(super) struct Visitor(Caller);

impl FromRequestParts<App> for Visitor {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Response> {
        let cookies =
            parts.headers.get(header::COOKIE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let named = |pair: &str| pair.trim().strip_prefix(COOKIE)?.strip_prefix('=').map(str::to_owned);
        let secret = cookies.split(';').find_map(named).and_then(|text| decode_secret(&text));
        let Some(secret) = secret else { return Err(login_page(None)) };
        let hash = secret_hash(&secret);
        match app.handle.call(move |grid, now| grid.authorize(now, &hash)).await {
            Ok(caller) => Ok(Visitor(caller)),
            Err(problem) => Err(login_page(Some(&problem.detail))),
        }
    }
}

#[derive(Deserialize)]
pub(super) struct LoginForm {
    token: String,
}

pub(super) async fn login(State(app): State<App>, Form(form): Form<LoginForm>) -> Response {
    let token = match Token::parse(&form.token, TokenKind::User) {
        Ok(token) => token,
        Err(error) => return login_page(Some(&error.to_string())),
    };
    let hash = secret_hash(&token.secret);
    if let Err(problem) = app.handle.call(move |grid, now| grid.authorize(now, &hash)).await {
        return login_page(Some(&problem.detail));
    }
    let cookie = format!("{COOKIE}={}; Path=/; Secure; HttpOnly; SameSite=Strict", token.secret_text());
    let cookie = HeaderValue::from_str(&cookie).expect("a token's secret is base64");
    ([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response()
}

pub(super) async fn home(State(app): State<App>, Visitor(caller): Visitor) -> Response {
    let answer = app.handle.call(move |grid, now| {
        Ok((grid.list_jobs(&caller, RECENT), grid.list_clients(now), now, caller.user))
    });
    let (jobs, clients, now, user) = match answer.await {
        Ok(answer) => answer,
        Err(problem) => return Refused(problem).into_response(),
    };
    let mut body = String::new();
    let _ = write!(body, "<p>Logged in as {}. As of {now}.</p><h2>Jobs</h2>", escape(user.as_str()));
    body.push_str(&jobs_table(&jobs));
    body.push_str("<h2>Clients</h2>");
    body.push_str(&clients_table(&clients));
    page(StatusCode::OK, "DCGrid", &body)
}

pub(super) async fn job(State(app): State<App>, Visitor(caller): Visitor, Path(id): Path<JobId>) -> Response {
    let live = match app.handle.call(move |grid, now| grid.live_job(now, &caller, id)).await {
        Ok(live) => live,
        Err(problem) => return Refused(problem).into_response(),
    };
    let mut body = jobs_table(std::slice::from_ref(&live.view));
    for text in live.view.reason.iter().chain(&live.waits) {
        let _ = write!(body, "<p>{}</p>", escape(text));
    }
    if !live.running.is_empty() {
        body.push_str("<h2>Running</h2><table><tr><th>Subjob<th>Attempt<th>Client<th>Since</tr>");
        for running in &live.running {
            let host = escape(&running.host_name);
            let _ = write!(
                body,
                "<tr><td>{id}.{}<td class=n>{}<td>{host}<td>{}</tr>",
                running.subjob, running.attempt, running.since
            );
        }
        body.push_str("</table>");
    }
    page(StatusCode::OK, &format!("Job {id} - DCGrid"), &body)
}

fn jobs_table(jobs: &[JobView]) -> String {
    if jobs.is_empty() {
        return "<p>None yet. Submit one with <code>dcgrid submit job.toml</code>.</p>".to_owned();
    }
    let mut text = "<table><tr><th>Job<th>Name<th>User<th>State<th>Progress<th>Done<th>Running<th>Waiting\
                    <th>Failed<th>Computed<th>Submitted</tr>"
        .to_owned();
    for job in jobs {
        let counts = job.counts;
        let ended = counts.succeeded + counts.failed + counts.cancelled;
        let cpu = display_duration(std::time::Duration::from_secs_f64(job.cpu_s));
        let _ = write!(
            text,
            "<tr><td><a href=\"/console/jobs/{id}\">{id}</a><td>{name}<td>{user}<td>{state}\
             <td><progress max={total} value={ended}>{ended} of {total}</progress><td class=n>{done}\
             <td class=n>{running}<td class=n>{waiting}<td class=n>{failed}<td class=n>{cpu}<td>{submitted}</tr>",
            id = job.job,
            name = escape(&job.name),
            user = escape(job.user.as_str()),
            state = job.state,
            total = counts.total,
            done = counts.succeeded,
            running = counts.running,
            waiting = counts.waiting,
            failed = counts.failed,
            submitted = job.submitted,
        );
    }
    text + "</table>"
}

fn clients_table(clients: &[ClientView]) -> String {
    if clients.is_empty() {
        return "<p>None yet. Start one with <code>dcgrid client</code>.</p>".to_owned();
    }
    let mut text = "<table><tr><th>Host<th>State<th>Processors<th>Memory<th>Running<th>Succeeded<th>Failed\
                    <th>Last seen</tr>"
        .to_owned();
    for client in clients {
        let _ = write!(
            text,
            "<tr><td>{host}<td>{state}<td class=n>{cpus}<td class=n>{memory}<td class=n>{running}\
             <td class=n>{succeeded}<td class=n>{failed}<td>{seen}</tr>",
            host = escape(&client.inventory.host_name),
            state = escape(&client.state_text()),
            cpus = client.inventory.cpus,
            memory = client.inventory.memory,
            running = client.running,
            succeeded = client.succeeded,
            failed = client.failed,
            seen = client.last_seen.map_or("never".to_owned(), |at| at.to_string()),
        );
    }
    text + "</table>"
}

fn login_page(why: Option<&str>) -> Response {
    let why = why.map(|why| format!("<p><b>{}</b></p>", escape(why))).unwrap_or_default();
    let form = format!(
        "{why}<form method=post action=/console/login><label>User token \
         <input name=token type=password size=60 autocomplete=off autofocus></label> <button>Log in</button></form>\
         <p>The token is in the login file that the server or <code>dcgrid up</code> names when it starts, or \
         comes from <code>dcgrid token create user NAME</code>.</p>"
    );
    page(StatusCode::UNAUTHORIZED, "Log in - DCGrid", &form)
}

fn page(status: StatusCode, title: &str, body: &str) -> Response {
    let refresh = if status == StatusCode::OK { "<meta http-equiv=refresh content=5>" } else { "" };
    let text = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         {refresh}<title>{}</title><style>{STYLE}</style><h1><a href=/>DCGrid</a></h1>{body}",
        escape(title)
    );
    let headers = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (status, headers, Html(text)).into_response()
}

/// Text as HTML shows it: names and reasons come from users and clients.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_users_write_can_not_become_markup() {
        assert_eq!(escape("<b a='\"'>&"), "&lt;b a=&#39;&quot;&#39;&gt;&amp;");
    }
}
