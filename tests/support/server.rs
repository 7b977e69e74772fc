//! The real server as a child process, and a client of it.

use std::{
    io::{BufRead as _, BufReader},
    ops::Deref,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use serde_json::Value;

/// A running server, and a client of it; killed when dropped.
pub(crate) struct Server {
    child: Child,
    log: Arc<Mutex<String>>,
    client: Client,
}

/// A client, with connections of its own.
pub(crate) struct Client {
    pub(crate) url: String,
    agent: ureq::Agent,
}

/// An answer: its status, its content type and its body.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) headers: ureq::http::HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    /// A header; empty when there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    /// The body, of an answer that must have this status.
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.json()
    }

    /// An error with this status and code, in the form that all errors have.
    pub(crate) fn problem(self, status: u16, code: &str) -> Value {
        let Self { content_type, .. } = &self;
        assert_eq!(content_type, "application/problem+json", "{}", self.text);
        let body = self.expect(status);
        assert_eq!(body["code"], code, "{body}");
        assert_eq!(body["status"], status, "{body}");
        for field in ["title", "detail", "suggestion"] {
            assert!(body[field].as_str().is_some_and(|text| !text.is_empty()), "{field} in {body}");
        }
        body
    }
}

/// The command that starts a server on `data_dir`, on a port that the system chooses.
pub(crate) fn command(data_dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_engram"));
    command.arg("start").arg("--data-dir").arg(data_dir).args(arguments);
    if !arguments.contains(&"--listen") {
        command.args(["--listen", "127.0.0.1:0"]);
    }
    command.env_remove("ENGRAM_API_KEY").env_remove("ENGRAM_API_KEY_FILE");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// The same, after a shell has done this: set a limit, say, or exchanged a file.
pub(crate) fn command_after(shell: &str, data_dir: &Path, arguments: &[&str]) -> Command {
    let inner = command(data_dir, arguments);
    let mut command = Command::new("bash");
    command
        .arg("-c")
        .arg(format!("{shell} && exec \"$0\" \"$@\""))
        .arg(inner.get_program())
        .args(inner.get_args());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

impl Server {
    /// Starts a server and waits until it is ready.
    pub(crate) fn start(data_dir: &Path, arguments: &[&str]) -> Self {
        Self::spawn(command(data_dir, arguments))
    }

    /// Starts a server by `command` and waits until it is ready.
    pub(crate) fn spawn(command: Command) -> Self {
        Self::try_until_ready(command)
            .unwrap_or_else(|(status, log)| panic!("the server ended with {status}:\n{log}"))
    }

    /// Starts a server by `command` and waits until it is ready; its status and its log when it ends before.
    pub(crate) fn try_until_ready(mut command: Command) -> Result<Self, (ExitStatus, String)> {
        let mut child = command.spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut log = String::new();
        let url = loop {
            let start = log.len();
            if stderr.read_line(&mut log).unwrap() == 0 {
                return Err((child.wait().unwrap(), log));
            }
            if let Some((_, rest)) = log[start..].split_once("listening on ") {
                break rest.split_whitespace().next().unwrap().to_owned();
            }
        };
        let log = Arc::new(Mutex::new(log));
        let rest = Arc::clone(&log);
        // Read on, so that the server never waits for a full pipe.
        thread::spawn(move || {
            let mut line = String::new();
            while stderr.read_line(&mut line).is_ok_and(|n| n > 0) {
                rest.lock().unwrap().push_str(&line);
                line.clear();
            }
        });
        Ok(Self { child, log, client: Client::of(url) })
    }

    /// Starts a server that cannot say where it listens: the kernel does.
    pub(crate) fn spawn_mute(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        let url = loop {
            if let Some(port) = listening_port(child.id()) {
                break format!("http://127.0.0.1:{port}");
            }
            assert!(child.try_wait().unwrap().is_none(), "the server has ended");
            thread::sleep(Duration::from_millis(2));
        };
        let server = Self { child, log: Arc::default(), client: Client::of(url) };
        while server.get("/readyz").status != 200 {
            thread::sleep(Duration::from_millis(2));
        }
        server
    }

    /// Starts a server and waits until it is ready; then nobody reads any more what it says.
    pub(crate) fn spawn_deaf(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let url_in = |line: String| Some(line.split_once("listening on ")?.1.split(' ').next()?.to_owned());
        let url = stderr.lines().map(Result::unwrap).find_map(url_in).unwrap();
        Self { child, log: Arc::default(), client: Client::of(url) }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What the server has said on stderr.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// SIGKILL, at this very moment.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        let status =
            Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status().unwrap();
        assert!(status.success());
    }

    /// SIGTERM; the exit status and the log.
    pub(crate) fn stop(mut self) -> (ExitStatus, String) {
        self.signal("TERM");
        let status = self.child.wait().unwrap();
        (status, self.log())
    }

    /// The exit status of a server that ends by itself.
    pub(crate) fn wait(mut self) -> (ExitStatus, String) {
        let status = self.child.wait().unwrap();
        (status, self.log())
    }
}

impl Deref for Server {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Client {
    /// Of the server at `url`.
    pub(crate) fn of(url: String) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_mins(1)))
            .build();
        Self { url, agent: config.into() }
    }

    /// Of a server with this certificate.
    pub(crate) fn trusting(url: String, certificate: &[u8]) -> Self {
        let certificate = ureq::tls::Certificate::from_pem(certificate).unwrap();
        let roots = ureq::tls::RootCerts::new_with_certs(&[certificate]);
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .tls_config(ureq::tls::TlsConfig::builder().root_certs(roots).build())
            .timeout_global(Some(Duration::from_mins(1)))
            .build();
        Self { url, agent: config.into() }
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        answer(self.agent.get(format!("{}{path}", self.url)).call().unwrap())
    }

    /// Nothing when the connection breaks.
    pub(crate) fn try_get(&self, path: &str) -> Option<Answer> {
        self.agent.get(format!("{}{path}", self.url)).call().ok().map(answer)
    }

    pub(crate) fn delete(&self, path: &str) -> Answer {
        self.try_delete(path).unwrap()
    }

    /// Nothing when the connection breaks.
    pub(crate) fn try_delete(&self, path: &str) -> Option<Answer> {
        self.agent.delete(format!("{}{path}", self.url)).call().ok().map(answer)
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, "application/json", body.to_string().as_bytes()).unwrap()
    }

    pub(crate) fn put(&self, path: &str, body: &Value) -> Answer {
        self.send("PUT", path, "application/json", body.to_string().as_bytes()).unwrap()
    }

    /// Any request with a body; an error when the connection breaks.
    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: &[u8],
    ) -> Result<Answer, ureq::Error> {
        let url = format!("{}{path}", self.url);
        let request = match method {
            "PUT" => self.agent.put(url),
            _ => self.agent.post(url),
        };
        let request = if content_type.is_empty() { request } else { request.content_type(content_type) };
        Ok(answer(request.send(body)?))
    }

    /// Any request with these headers; without a body if it is empty.
    pub(crate) fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.try_request(method, path, headers, body).unwrap()
    }

    /// The same; nothing when the connection breaks.
    pub(crate) fn try_request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Option<Answer> {
        let url = format!("{}{path}", self.url);
        let json = [("content-type", "application/json")];
        let is_typed = body.is_empty() || headers.iter().any(|(name, _)| *name == "content-type");
        let headers = headers.iter().chain(json.iter().filter(|_| !is_typed));
        let response = if method == "GET" {
            headers.fold(self.agent.get(url), |it, (name, value)| it.header(*name, *value)).call()
        } else {
            let request = match method {
                "PUT" => self.agent.put(url),
                "PATCH" => self.agent.patch(url),
                "DELETE" => self.agent.delete(url).force_send_body(),
                _ => self.agent.post(url),
            };
            headers.fold(request, |it, (name, value)| it.header(*name, *value)).send(body)
        };
        response.ok().map(answer)
    }

    /// The memory with this id, or nothing.
    pub(crate) fn memory(&self, id: &str) -> Option<Value> {
        let answer = self.get(&format!("/v1/memories/{id}?include=embedding"));
        (answer.status != 404).then(|| answer.expect(200))
    }

    /// All memories, page by page.
    pub(crate) fn all_memories(&self) -> Vec<Value> {
        let mut memories = Vec::new();
        let mut cursor = String::new();
        loop {
            let mut page = self.get(&format!("/v1/memories?limit=1000{cursor}")).expect(200);
            memories.append(page["memories"].as_array_mut().unwrap());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return memories,
            }
        }
    }
}

/// Where a process listens, as the kernel has it.
fn listening_port(pid: u32) -> Option<u16> {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
    let sockets: Vec<String> = files
        .filter_map(|file| std::fs::read_link(file.path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/tcp")).ok()?;
    table.lines().skip(1).find_map(|line| {
        // Number, local address, remote address, state (0A: listening), five more, inode.
        let fields: Vec<&str> = line.split_whitespace().collect();
        let port = fields.get(1)?.rsplit_once(':')?.1;
        let is_its =
            fields.get(3) == Some(&"0A") && sockets.iter().any(|it| Some(&it.as_str()) == fields.get(9));
        is_its.then(|| u16::from_str_radix(port, 16).ok()).flatten()
    })
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn answer(mut response: ureq::http::Response<ureq::Body>) -> Answer {
    let header = |name| response.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or("").to_owned();
    let content_type = header("content-type");
    let status = response.status().as_u16();
    let text = response.body_mut().with_config().limit(1 << 30).read_to_string().unwrap_or_default();
    Answer { status, content_type, headers: response.headers().clone(), text }
}
