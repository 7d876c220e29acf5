//! A DNS server that knows a few names.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, bail};

/// Answers IPv4 questions on port 53 of a loopback address of its own, because a `resolv.conf` cannot name a port.
///
/// That port takes root. Names that it does not know do not exist.
#[derive(Debug)]
pub struct NameServer {
    address: Ipv4Addr,
    questions: Arc<Mutex<Vec<String>>>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl NameServer {
    /// Starts a server that knows `names`.
    ///
    /// # Errors
    ///
    /// Fails if no loopback address has a free port 53, or the process may not use it.
    pub fn start<'a>(names: impl IntoIterator<Item = (&'a str, Ipv4Addr)>) -> anyhow::Result<Self> {
        let known =
            names.into_iter().map(|(name, address)| (name.to_ascii_lowercase(), address)).collect();
        let (socket, address) = bind()?;
        socket.set_read_timeout(Some(Duration::from_millis(50))).context("cannot set a timeout")?;
        let questions = Arc::<Mutex<Vec<String>>>::default();
        let stopping = Arc::new(AtomicBool::new(false));
        let thread = {
            let (questions, stopping) = (Arc::clone(&questions), Arc::clone(&stopping));
            std::thread::spawn(move || serve(&socket, &known, &questions, &stopping))
        };
        Ok(Self { address, questions, stopping, thread: Some(thread) })
    }

    /// A `resolv.conf` that names this server and no other.
    pub fn resolv_conf(&self) -> String {
        format!("nameserver {}\n", self.address)
    }

    /// The names that were asked for so far, in order.
    pub fn questions(&self) -> Vec<String> {
        self.questions.lock().map(|list| list.clone()).unwrap_or_default()
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        let _panicked = self.thread.take().map(JoinHandle::join);
    }
}

fn bind() -> anyhow::Result<(UdpSocket, Ipv4Addr)> {
    let mut last = None;
    for part in 2..=250 {
        let address = Ipv4Addr::new(127, 0, 53, part);
        match UdpSocket::bind((address, 53)) {
            Ok(socket) => return Ok((socket, address)),
            Err(error) => last = Some(error),
        }
    }
    match last {
        Some(error) => Err(error).context("cannot bind port 53 of any loopback address"),
        None => bail!("there is no loopback address to try"),
    }
}

fn serve(
    socket: &UdpSocket,
    known: &BTreeMap<String, Ipv4Addr>,
    questions: &Mutex<Vec<String>>,
    stopping: &AtomicBool,
) {
    let mut packet = [0; 1500];
    while !stopping.load(Ordering::SeqCst) {
        // A timeout is how the flag is looked at.
        let Ok((length, client)) = socket.recv_from(&mut packet) else { continue };
        let Some(question) = Question::parse(&packet[..length]) else { continue };
        if let Ok(mut list) = questions.lock() {
            list.push(question.name.clone());
        }
        let answer = question.answer(known.get(&question.name).copied());
        send(socket, &answer, client);
    }
}

fn send(socket: &UdpSocket, answer: &[u8], client: SocketAddr) {
    // A client that is gone does not want the answer.
    let _gone = socket.send_to(answer, client);
}

const TYPE_A: [u8; 2] = [0, 1];
const HEADER: usize = 12;

/// The first question of a query; nobody sends two.
struct Question<'a> {
    id: &'a [u8],
    name: String,
    kind: [u8; 2],
    /// Name, type and class as they were sent, to be repeated in the answer.
    raw: &'a [u8],
}

impl<'a> Question<'a> {
    fn parse(packet: &'a [u8]) -> Option<Self> {
        let id = packet.get(..2)?;
        let mut at = HEADER;
        let mut labels = Vec::new();
        loop {
            let length = usize::from(*packet.get(at)?);
            at += 1;
            match length {
                0 => break,
                // A pointer has no place in a question.
                64.. => return None,
                _ => labels.push(
                    String::from_utf8_lossy(packet.get(at..at + length)?).to_ascii_lowercase(),
                ),
            }
            at += length;
        }
        let kind = packet.get(at..at + 2)?.try_into().ok()?;
        Some(Self { id, name: labels.join("."), kind, raw: packet.get(HEADER..at + 4)? })
    }

    fn answer(&self, address: Option<Ipv4Addr>) -> Vec<u8> {
        let address_record = address.filter(|_| self.kind == TYPE_A);
        // Response, recursion desired and available; code 3 is "no such name".
        let code = if address.is_some() { 0 } else { 3 };
        let count = u8::from(address_record.is_some());
        let mut answer = self.id.to_vec();
        answer.extend([0x81, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0]);
        answer.extend(self.raw);
        if let Some(address) = address_record {
            // A pointer to the name above, type A, class IN, one minute, four bytes.
            answer.extend([0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
            answer.extend(address.octets());
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn privileged_a_known_name_resolves_and_an_unknown_one_does_not_exist() {
        let server = NameServer::start([("Registry.test", Ipv4Addr::LOCALHOST)]).unwrap();
        let pod = crate::Pod::new(crate::base::busybox().unwrap().root())
            .resolv_conf(&server.resolv_conf());
        let script = "nslookup registry.TEST | tail -n +3 | grep Address; nslookup other.test >/dev/null 2>&1; echo $?";
        let output = pod.run(["sh", "-c", script]).unwrap().assert_success();
        assert_eq!(output.stdout, "Address: 127.0.0.1\n1\n");
        assert!(server.questions().contains(&"other.test".to_owned()), "{:?}", server.questions());
    }
}
