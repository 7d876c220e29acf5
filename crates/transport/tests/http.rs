//! The transport against scripted servers: who sees what, what is repeated, what is limited.

mod server;

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ebiko_transport::{
    Body, Method, Options, Proxies, Request, Response, Retries, Timeouts, Transport,
    TransportError, Trust, Url,
};
use server::{Answer, End, Received, Server, answer};

/// Everything fast, so that a test of a time-out takes no time.
fn options() -> Options {
    Options {
        user_agent: "ebiko-test".into(),
        hosts: b"127.0.0.1 registry.example evil.example\n".to_vec(),
        timeouts: Timeouts {
            connect: Duration::from_secs(5),
            idle: Duration::from_millis(300),
            small_body: Duration::from_millis(900),
        },
        retries: Retries {
            attempts: 3,
            first_wait: Duration::from_millis(1),
            longest_wait: Duration::from_millis(20),
        },
        ..Options::default()
    }
}

fn transport() -> Transport {
    Transport::new(&options()).expect("the options are right")
}

fn url(text: &str) -> Url {
    Url::parse(text).expect("the test has a URL")
}

/// The error with its causes, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[track_caller]
fn error_of(result: Result<Response, TransportError>) -> String {
    chain(&result.expect_err("the request fails"))
}

fn authorized(url: Url) -> Request {
    Request::get(url).with_authorization("Basic c2VjcmV0").expect("it is a header value")
}

#[test]
fn a_response_is_read_like_a_file() {
    let server = Server::start(|_| answer(200).header("X-One", "1").body("hello"));
    let request = Request::get(url(&format!("http://{}/a?b=c", server.host())));
    let mut response = transport().send(&request).expect("the server answers");
    assert_eq!((response.status().as_u16(), response.header("x-one")), (200, Some("1")));
    let mut text = String::new();
    response.read_to_string(&mut text).expect("the body is there");
    assert_eq!(text, "hello");
    let received = &server.received()[0];
    assert_eq!((received.line().as_str(), received.target.as_str()), ("GET /a", "/a?b=c"));
    assert_eq!(received.header("user-agent"), "ebiko-test");
    assert_eq!(received.header("accept-encoding"), "", "blobs are wanted as they are stored");
}

#[test]
fn authorization_does_not_follow_a_redirect_to_another_origin() {
    let storage = Server::start(|_| answer(200).body("blob"));
    let target = format!("http://127.0.0.1:{}/blob?X-Signature=s3cret", storage.port());
    let server = Server::start(move |request: &Received| match request.target.as_str() {
        "/far" => answer(307).header("Location", target.clone()),
        "/near" => answer(302).header("Location", "/here"),
        _ => answer(200).body("here"),
    });
    let transport = transport();
    let get = |path: &str| {
        let request = authorized(url(&format!("http://{}{path}", server.host())));
        let response = transport.send(&request).expect("redirects are followed");
        (response.url().path().to_owned(), response.into_bytes(100).expect("the body is there"))
    };
    assert_eq!(get("/far"), ("/blob".into(), b"blob".to_vec()));
    assert_eq!(storage.received()[0].header("authorization"), "");
    assert_eq!(storage.received()[0].target, "/blob?X-Signature=s3cret");
    assert_eq!(get("/near"), ("/here".into(), b"here".to_vec()));
    assert_eq!(server.received()[2].header("authorization"), "Basic c2VjcmV0");
}

#[test]
fn a_server_cannot_send_us_to_a_private_address_by_name() {
    let inner = Server::start(|_| answer(200));
    let target = format!("http://evil.example:{}/latest/meta-data", inner.port());
    let location = target.clone();
    let server = Server::start(move |_| answer(307).header("Location", location.clone()));
    let home = format!("http://registry.example:{}/", server.port());
    let reason = "the server names `evil.example`, whose address 127.0.0.1 is not public";

    let redirected = transport().send(&Request::get(url(&home)));
    assert_eq!(error_of(redirected), format!("cannot GET {target}: {reason}"));

    let named = Request::get(url(&target)).with_trust(Trust::Server { chosen: url(&home) });
    assert_eq!(error_of(transport().send(&named)), format!("cannot GET {target}: {reason}"));

    // The same address is fine where the user asked for it, and its pooled connection is not
    // lent to the server's request.
    let transport = transport();
    transport.send(&Request::get(url(&target))).expect("the user may go there");
    assert_eq!(error_of(transport.send(&named)), format!("cannot GET {target}: {reason}"));
    assert_eq!(inner.lines(), ["GET /latest/meta-data"]);
}

#[test]
fn a_server_may_send_us_to_another_port_of_its_own_host() {
    let other = Server::start(|_| answer(200).body("token"));
    let named = Request::get(url(&format!("http://registry.example:{}/token", other.port())))
        .with_trust(Trust::Server { chosen: url("http://registry.example:5000/v2/") });
    let response = transport().send(&named).expect("it is the same host");
    assert_eq!(response.into_bytes(10).expect("the body is there"), b"token");
}

#[test]
fn redirect_loops_end() {
    let server = Server::start(|_| answer(302).header("Location", "/again"));
    let address = format!("http://{}/", server.host());
    let error = error_of(transport().send(&Request::get(url(&address))));
    assert_eq!(error, format!("cannot GET {address}: the server redirects more than 10 times"));
    assert_eq!(server.lines().len(), 11);
}

#[test]
fn not_now_is_tried_again_and_the_last_answer_is_returned() {
    for (status, tries) in [(503, 3), (429, 3), (500, 3), (408, 3), (404, 1), (401, 1)] {
        let server = Server::start(move |_| answer(status).header("Retry-After", "0"));
        let request = Request::get(url(&format!("http://{}/", server.host())));
        let response = transport().send(&request).expect("a status is no error");
        assert_eq!(response.status().as_u16(), status);
        assert_eq!(server.lines().len(), tries, "{status}");
    }
}

#[test]
fn what_is_not_repeatable_is_sent_once() {
    let server = Server::start(|_| answer(503));
    let mut request = Request::new(Method::POST, url(&format!("http://{}/", server.host())));
    transport().send(&request).expect("a status is no error");
    assert_eq!(server.lines().len(), 1);
    assert_eq!(server.received()[0].header("content-length"), "0");
    request.is_repeatable = true;
    transport().send(&request).expect("a status is no error");
    assert_eq!(server.lines().len(), 4);
}

#[test]
fn a_broken_connection_is_tried_again_and_told() {
    let count = AtomicUsize::new(0);
    let server = Server::start(move |_| match count.fetch_add(1, Ordering::Relaxed) {
        0 => Answer::hang_up(),
        1 => answer(502),
        _ => answer(200).body("third"),
    });
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let heard = Arc::clone(&told);
    let options = Options {
        on_retry: Some(Arc::new(move |retrying| {
            let line = format!("{} {} {}", retrying.attempt, retrying.url, retrying.reason);
            heard.lock().expect("nobody panicked").push(line);
        })),
        ..options()
    };
    let address = format!("http://{}/x?token=s3cret", server.host());
    let transport = Transport::new(&options).expect("the options are right");
    let response = transport.send(&Request::get(url(&address))).expect("the third time works");
    assert_eq!(response.into_bytes(10).expect("the body is there"), b"third");
    let told = told.lock().expect("nobody panicked");
    let shown = format!("http://{}/x?…", server.host());
    assert_eq!(told.len(), 2);
    assert!(told[0].starts_with(&format!("1 {shown} the connection broke")), "{told:?}");
    assert_eq!(told[1], format!("2 {shown} 502 Bad Gateway"));
}

#[test]
fn a_silent_server_is_given_up() {
    let server = Server::start(|request| match request.target.as_str() {
        "/head" => {
            // Longer than the limit, short enough to end with the test.
            std::thread::sleep(Duration::from_millis(700));
            answer(200)
        }
        _ => answer(200).body("twelve bytes").end(End::Stall(6)),
    });
    let options = Options { retries: Retries { attempts: 1, ..options().retries }, ..options() };
    let transport = Transport::new(&options).expect("the options are right");
    let address = |path: &str| url(&format!("http://{}{path}", server.host()));
    let error = error_of(transport.send(&Request::get(address("/head"))));
    assert!(error.ends_with("waited 0.3 s for a response"), "{error}");

    let mut response = transport.send(&Request::get(address("/body"))).expect("the head comes");
    let error = response.read_to_end(&mut Vec::new()).expect_err("the body stalls");
    assert!(chain(&error).contains("waited 0.3 s for the next piece"), "{}", chain(&error));

    let quick =
        Request { deadline: Some(Duration::from_millis(50)), ..Request::get(address("/head")) };
    let error = error_of(transport.send(&quick));
    assert!(error.ends_with("waited 0.05 s for a response"), "{error}");
}

#[test]
fn a_server_that_drips_does_not_hold_us_for_ever() {
    let server = Server::start(|_| {
        answer(200).body(vec![b'x'; 1000]).end(End::Drip(Duration::from_millis(50)))
    });
    let request = Request::get(url(&format!("http://{}/", server.host())));
    let response = transport().send(&request).expect("the head comes");
    let error = response.into_bytes(5000).expect_err("it would take 50 s");
    let error = chain(&error);
    assert!(error.ends_with("waited 0.9 s for the body of the response"), "{error}");
}

#[test]
fn a_body_in_memory_has_a_limit_by_count() {
    let server = Server::start(|_| answer(200).body(vec![b'x'; 5000]));
    let transport = transport();
    let get = || {
        let request = Request::get(url(&format!("http://{}/", server.host())));
        transport.send(&request).expect("the server answers")
    };
    assert_eq!(get().into_bytes(5000).expect("it is just short enough").len(), 5000);
    let error = get().into_bytes(4999).expect_err("it is too long");
    assert!(chain(&error).ends_with("the answer is longer than 4999 bytes"), "{}", chain(&error));
    assert_eq!(get().into_excerpt(7), b"xxxxxxx");
}

#[test]
fn a_body_that_ends_early_is_an_error() {
    let server = Server::start(|_| answer(200).body(vec![b'x'; 5000]).end(End::Cut(100)));
    let request = Request::get(url(&format!("http://{}/", server.host())));
    let mut response = transport().send(&request).expect("the head comes");
    let mut bytes = Vec::new();
    let error = response.read_to_end(&mut bytes).expect_err("4900 bytes are missing");
    assert!(chain(&error).contains("the connection broke"), "{}", chain(&error));
    assert_eq!(bytes.len(), 100);
}

/// `length` bytes that nobody holds in memory.
fn zeros(length: u64) -> Body {
    Body::stream(length, move || Ok(Box::new(io::repeat(0).take(length))))
}

#[test]
fn an_upload_is_streamed_with_its_length_and_survives_a_307() {
    const LENGTH: u64 = 3 * 1024 * 1024 + 1;
    let server = Server::start(|request: &Received| match request.target.as_str() {
        "/first" => answer(307).header("Location", "/second"),
        _ => answer(201),
    });
    let address = url(&format!("http://{}/first", server.host()));
    let request = Request::new(Method::PUT, address).with_body(zeros(LENGTH));
    let response = transport().send(&request).expect("the upload arrives");
    assert_eq!(response.status().as_u16(), 201);
    let received = &server.received()[1];
    assert_eq!((received.line().as_str(), received.body.len() as u64), ("PUT /second", LENGTH));
    assert_eq!(received.header("content-length"), LENGTH.to_string());
}

#[test]
fn a_source_that_fails_is_blamed_itself_and_not_tried_again() {
    let server = Server::start(|_| answer(201));
    let request = |body| {
        Request::new(Method::PUT, url(&format!("http://{}/", server.host()))).with_body(body)
    };
    let short = Body::stream(1000, || Ok(Box::new(io::repeat(0).take(900))));
    let error = error_of(transport().send(&request(short)));
    assert!(
        error.ends_with("cannot read what is to be sent: the contents end 100 bytes early"),
        "{error}"
    );
    let missing = Body::stream(1000, || Err(io::Error::other("the spool is gone")));
    let error = error_of(transport().send(&request(missing)));
    assert!(error.ends_with("cannot read what is to be sent: the spool is gone"), "{error}");
    assert_eq!(server.lines().len(), 0, "no request was whole");
}

/// A source that takes longer than the limit on silence for each of its pieces.
struct Slow(usize);

impl Read for Slow {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0 == 0 {
            return Ok(0);
        }
        std::thread::sleep(Duration::from_millis(400));
        self.0 -= 1;
        buffer[0] = b'x';
        Ok(1)
    }
}

#[test]
fn waiting_for_the_source_is_not_silence_of_the_server() {
    let server = Server::start(|_| answer(201));
    let address = url(&format!("http://{}/", server.host()));
    let body = Body::stream(2, || Ok(Box::new(Slow(2))));
    let request = Request::new(Method::PUT, address).with_body(body);
    assert_eq!(transport().send(&request).expect("it arrives").status().as_u16(), 201);
}

#[test]
fn one_response_can_be_the_body_of_the_next_request() {
    let from = Server::start(|_| answer(200).body(vec![7; 1_000_000]));
    let to = Server::start(|_| answer(201));
    let transport = transport();
    let (reader, address) = (transport.clone(), url(&format!("http://{}/", from.host())));
    let body = Body::stream(1_000_000, move || {
        let response = reader.send(&Request::get(address.clone())).map_err(io::Error::other)?;
        Ok(Box::new(response))
    });
    let request = Request::new(Method::PUT, url(&format!("http://{}/", to.host()))).with_body(body);
    assert_eq!(transport.send(&request).expect("it arrives").status().as_u16(), 201);
    assert_eq!(to.received()[0].body, vec![7; 1_000_000]);
}

#[test]
fn names_are_sent_to_the_proxy_and_loopback_is_not() {
    let proxy = Server::start(|_| answer(200).body("from the proxy"));
    let direct = Server::start(|_| answer(200).body("direct"));
    let options = Options {
        proxies: Proxies {
            http: Some(format!("http://me:pw@127.0.0.1:{}", proxy.port())),
            ..Proxies::default()
        },
        ..options()
    };
    let transport = Transport::new(&options).expect("the options are right");
    let get = |address: &str| {
        let response = transport.send(&Request::get(url(address))).expect("somebody answers");
        String::from_utf8(response.into_bytes(100).expect("the body is there")).expect("it is text")
    };
    assert_eq!(get("http://no.such.name/x"), "from the proxy");
    assert_eq!(get(&format!("http://localhost:{}/x", direct.port())), "direct");
    let received = &proxy.received()[0];
    assert_eq!(received.target, "http://no.such.name/x");
    assert_eq!(received.header("proxy-authorization"), "Basic bWU6cHc=");
}

#[test]
fn a_refused_connection_and_an_unknown_name_say_so() {
    let options = Options { retries: Retries { attempts: 1, ..options().retries }, ..options() };
    let transport = Transport::new(&options).expect("the options are right");
    // Port 1 (tcpmux) is closed wherever tests run.
    let error = error_of(transport.send(&Request::get(url("http://127.0.0.1:1/"))));
    assert_eq!(
        error,
        "cannot GET http://127.0.0.1:1/: cannot connect: Connection refused (os error 111)"
    );
    let error = error_of(transport.send(&Request::get(url("http://r.example/"))));
    assert_eq!(
        error,
        "cannot GET http://r.example/: cannot look up `r.example`: /etc/resolv.conf is missing or \
         names no name server"
    );
}

#[test]
fn https_to_a_plain_server_is_explained() {
    let server = Server::start(|_| answer(200));
    let address = format!("https://localhost:{}/", server.port());
    let error = transport().send(&Request::get(url(&address))).expect_err("it is not TLS");
    assert_eq!(error.hint(), Some("the server does not speak TLS on this port"));
}

#[test]
fn privileged_names_come_from_the_server_and_the_search_list_of_resolv_conf() {
    let web = Server::start(|_| answer(200).body("found"));
    let loopback = std::net::Ipv4Addr::LOCALHOST;
    let names = testkit::NameServer::start([
        ("registry.real.test", loopback),
        ("hub.registries.svc.cluster.test", loopback),
    ])
    .expect("root may listen on port 53");
    let resolv_conf = format!("{}search svc.cluster.test\noptions ndots:5\n", names.resolv_conf());
    let options = Options { resolv_conf: resolv_conf.into_bytes(), ..options() };
    let transport = Transport::new(&options).expect("the options are right");
    let address = |host: &str| url(&format!("http://{host}:{}/", web.port()));
    for host in ["registry.real.test", "hub.registries"] {
        let response = transport.send(&Request::get(address(host))).expect("the name is known");
        assert_eq!(response.into_bytes(10).expect("the body is there"), b"found", "{host}");
    }
    let asked = names.questions().len();
    let error = error_of(transport.send(&Request::get(address("nowhere.real.test"))));
    assert!(error.ends_with("there is no host `nowhere.real.test`"), "{error}");
    assert!(names.questions().len() > asked);

    // What a server names is judged by the address that comes out of DNS.
    let request = Request::get(address("registry.real.test"))
        .with_trust(Trust::Server { chosen: url("http://registry.example/") });
    let error = error_of(transport.send(&request));
    assert!(error.contains("whose address 127.0.0.1 is not public"), "{error}");
}
