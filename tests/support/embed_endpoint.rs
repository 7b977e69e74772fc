//! An embedding endpoint of the test's own: a thread that speaks HTTP, on a port that the system chooses.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
};

use serde_json::{Value, json};

/// An endpoint that answers as it is told, and keeps what it was asked.
pub(crate) struct EmbedEndpoint {
    pub(crate) url: String,
    address: SocketAddr,
    asked: Arc<Asked>,
    stopped: Arc<AtomicBool>,
}

#[derive(Default)]
struct Asked {
    requests: Mutex<Vec<Request>>,
    more: Condvar,
}

/// A request, as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// How many came before it.
    pub(crate) number: usize,
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
    pub(crate) body: Value,
}

/// What is answered.
pub(crate) enum Reply {
    /// The vectors of the texts, of so many numbers.
    Vectors(usize),
    Json(u16, Value),
    /// A status, further lines of the head, and a body.
    Text(u16, &'static str, String),
    /// A head that says more than comes.
    Half,
    /// Nothing, until the client goes.
    Silence,
    /// A body without an end, until the client goes.
    Endless,
}

impl Request {
    /// The texts to embed.
    pub(crate) fn texts(&self) -> Vec<&str> {
        self.body["input"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
    }
}

impl EmbedEndpoint {
    pub(crate) fn start(reply: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, stopped) = (Arc::<Asked>::default(), Arc::<AtomicBool>::default());
        let (of_all, ends, reply) = (Arc::clone(&asked), Arc::clone(&stopped), Arc::new(reply));
        thread::spawn(move || {
            for stream in listener.incoming() {
                if ends.load(SeqCst) {
                    return;
                }
                let (asked, ends, reply) = (Arc::clone(&of_all), Arc::clone(&ends), Arc::clone(&reply));
                let Ok(stream) = stream else { continue };
                // A client that goes away in the middle is no failure of this side.
                thread::spawn(move || while serve(&stream, &asked, &ends, &*reply).is_some() {});
            }
        });
        Self { url: format!("http://{address}/v1"), address, asked, stopped }
    }

    /// One that gives each text the vector of its words.
    pub(crate) fn of_words(dimension: usize) -> Self {
        Self::start(move |_| Reply::Vectors(dimension))
    }

    /// All requests so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.asked.requests.lock().unwrap().clone()
    }

    /// Waits until so many requests have come.
    pub(crate) fn wait_for_requests(&self, count: usize) {
        let requests = self.asked.requests.lock().unwrap();
        drop(self.asked.more.wait_while(requests, |requests| requests.len() < count).unwrap());
    }
}

impl Drop for EmbedEndpoint {
    /// From then on nobody listens, and open connections end.
    fn drop(&mut self) {
        self.stopped.store(true, SeqCst);
        drop(TcpStream::connect(self.address));
    }
}

/// Answers one request; nothing when the connection is over.
fn serve(
    mut stream: &TcpStream,
    asked: &Asked,
    ends: &AtomicBool,
    reply: &dyn Fn(&Request) -> Reply,
) -> Option<()> {
    let mut request = read(stream)?;
    if ends.load(SeqCst) {
        return None;
    }
    {
        let mut requests = asked.requests.lock().unwrap();
        request.number = requests.len();
        requests.push(request.clone());
        asked.more.notify_all();
    }
    let (status, head, body) = match reply(&request) {
        Reply::Vectors(dimension) => (200, "", vectors(&request.texts(), dimension).to_string()),
        Reply::Json(status, body) => (status, "", body.to_string()),
        Reply::Text(status, head, body) => (status, head, body),
        Reply::Half => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{\"data\": [").ok()?;
            return None;
        }
        Reply::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok()?;
            let blanks = vec![b' '; 1 << 16];
            while stream.write_all(&blanks).is_ok() {}
            return None;
        }
        Reply::Silence => {
            while stream.read(&mut [0; 1024]).ok()? > 0 {}
            return None;
        }
    };
    let length = body.len();
    write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n{head}\r\n{body}").ok()
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|&n| n > 0)?;
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let header = |name: &str| {
        let mut fields = lines.iter().filter_map(|line| line.split_once(": "));
        fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
    };
    let length = header("content-length")?.parse().unwrap();
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request {
        number: 0,
        path: lines[0].split(' ').nth(1).unwrap().to_owned(),
        authorization: header("authorization"),
        body: serde_json::from_slice(&body).unwrap(),
    })
}

/// An answer in the usual form.
pub(crate) fn vectors(texts: &[&str], dimension: usize) -> Value {
    let data: Vec<Value> = (0..)
        .zip(texts)
        .map(|(index, text)| json!({"object": "embedding", "index": index, "embedding": vector(text, dimension)}))
        .collect();
    json!({"object": "list", "data": data, "model": "test", "usage": {"prompt_tokens": 1, "total_tokens": 1}})
}

/// The vector of a text: the sum of one for each of its words, so that texts with the same words are near.
pub(crate) fn vector(text: &str, dimension: usize) -> Vec<f32> {
    let mut sum = vec![0.0; dimension];
    for word in text.split_whitespace() {
        for (place, number) in sum.iter_mut().enumerate() {
            let mut hasher = DefaultHasher::new();
            (word.to_lowercase(), place).hash(&mut hasher);
            *number += f32::from(u16::try_from(hasher.finish() & 0xffff).unwrap()) / 32_768.0 - 1.0;
        }
    }
    sum
}
