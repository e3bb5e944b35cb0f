//! Who speaks something else than lines: browsers, clients of TLS, and telnet, by the bytes that they send.

use crate::client::Client;
use crate::process::Server;

/// What OpenSSL 3 sends first, in a record of 241 bytes.
const CLIENT_HELLO: &[u8] = b"\
    \x16\x03\x01\x00\xec\x01\x00\x00\xe8\x03\x03\xd0\x62\x82\x7c\xbb\x69\xd1\x1d\x23\x1a\x4f\xba\x8a\x46\x38\x3d\xe5\
    \xa7\x85\x8a\xd7\xb2\x14\x4a\x62\x0c\x00\x99\x1b\xc4\xdd\xda\x20\xfc\x39\xd5\xc4\xb6\xde\xf9\x6c\x3f\x29\x4a\x55\
    \x9a\x67\x0f\x86\x72\x3c\x08\xda\x97\xc2\xe2\x92\x00\x52\xdf\xcc\x9a\x00\x70\x18\x00\x0a\x13\x02\x13\x03\x13\x01\
    \xc0\x2f\x00\xff\x01\x00\x00\x95\x00\x0b\x00\x04\x03\x00\x01\x02\x00\x0a\x00\x16\x00\x14\x00\x1d\x00\x17\x00\x1e\
    \x00\x19\x00\x18\x01\x00\x01\x01\x01\x02\x01\x03\x01\x04\x00\x23\x00\x00\x00\x16\x00\x00\x00\x17\x00\x00\x00\x0d\
    \x00\x2a\x00\x28\x04\x03\x05\x03\x06\x03\x08\x07\x08\x08\x08\x09\x08\x0a\x08\x0b\x08\x04\x08\x05\x08\x06\x04\x01\
    \x05\x01\x06\x01\x03\x03\x03\x01\x03\x02\x04\x02\x05\x02\x06\x02\x00\x2b\x00\x05\x04\x03\x04\x03\x03\x00\x2d\x00\
    \x02\x01\x01\x00\x33\x00\x26\x00\x24\x00\x1d\x00\x20\x0b\xed\x61\x71\xc4\x79\xfd\x95\xab\x1d\x22\xac\x5e\xea\x94\
    \xb8\xcf\x77\x9f\x74\x71\x15\x6a\xc8\x49\x14\x71\xb5\x91\xc9\x6b\x55";

/// What `PuTTY` sends first, as soon as it is connected: WILL for the window's size, the terminal's speed and type and the
/// environment, DO for the echo, WILL and DO for going ahead.
const PUTTY_HELLO: &[u8] = b"\xff\xfb\x1f\xff\xfb\x20\xff\xfb\x18\xff\xfb\x27\xff\xfd\x01\xff\xfb\x03\xff\xfd\x03";

/// DONT and WONT for all of it.
const REFUSALS: &[u8] = b"\xff\xfe\x1f\xff\xfe\x20\xff\xfe\x18\xff\xfe\x27\xff\xfc\x01\xff\xfe\x03\xff\xfc\x03";

/// What a page has a browser send that knows nothing of this server: a form as text, with lines for the room in it.
const FORM: &[u8] =
    b"POST / HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nUser-Agent: Mozilla/5.0\r\nContent-Type: text/plain\r\n\
    Content-Length: 29\r\n\r\n/name admin\nbuy here\n/quit\n=";

/// A stranger is welcomed as everyone, and then it has said this much.
fn stranger(server: &Server, witness: &mut Client, bytes: &[u8]) -> Client {
    let mut stranger = server.join();
    witness.expect_arrival(stranger.who());
    stranger.send(bytes);
    stranger
}

#[test]
fn browser_is_answered_in_http_and_says_nothing() {
    let server = Server::start(&["--lang", "en"]);
    let mut anna = server.join();
    for request in [FORM, b"GET / HTTP/1.0\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x12\x04\0\0\0\0\0"] {
        let mut browser = server.join();
        anna.expect_line(&format!("{} joined", browser.who()));
        browser.send(request);
        browser.expect_line("HTTP/1.1 400 Bad Request\r");
        browser.expect_line("Content-Type: text/plain; charset=utf-8\r");
        let length = browser.next_text();
        browser.expect_line("Connection: close\r");
        browser.expect_line("\r");
        let body = browser.expect_notice();
        assert_eq!(length, format!("Content-Length: {}\r", body.len() + 1));
        browser.expect_end();
        anna.expect_line(&format!("{} left", browser.who()));
    }
    // It is a line as any other when it is not the first.
    for text in ["see this:", "GET / HTTP/1.1"] {
        anna.say(text);
        anna.expect_echo(text);
    }
}

#[test]
fn client_of_tls_is_turned_away_at_once() {
    let server = Server::start(&[]);
    let mut anna = server.join();
    // Older versions have another number in the same place.
    for minor in 0..=4 {
        let mut hello = CLIENT_HELLO.to_vec();
        hello[2] = minor;
        let mut client = stranger(&server, &mut anna, &hello);
        client.expect_notice();
        client.expect_end();
        anna.expect_departure(client.who());
    }
    // No more of it is needed than shows what it is.
    let mut client = stranger(&server, &mut anna, &CLIENT_HELLO[..3]);
    client.expect_notice();
    client.expect_end();
    anna.expect_departure(client.who());
}

/// Whoever keeps a server has to find out why nobody can connect.
#[test]
fn log_says_what_was_spoken_instead_of_lines() {
    let mut server = Server::start(&[]);
    let mut anna = server.join();
    let mut client = stranger(&server, &mut anna, CLIENT_HELLO);
    client.expect_notice();
    client.expect_end();
    anna.expect_departure(client.who());
    drop((anna, client));
    server.signal("TERM");
    server.expect_exit_0();
    assert!(server.stderr().contains("closed: it speaks TLS"), "{}", server.stderr());
}

#[test]
fn telnet_is_refused_each_option_and_heard_as_everyone() {
    let server = Server::start(&[]);
    let mut anna = server.join();
    let mut telnet = stranger(&server, &mut anna, &[PUTTY_HELLO, b"hello\r\n"].concat());
    anna.expect_said(telnet.who(), "hello");
    let echo = format!("{}: hello", telnet.who());
    telnet.expect_line_bytes(&[REFUSALS, echo.as_bytes()].concat());
    // An interrupt, a word of the terminal's type, a return by itself, and a name.
    telnet.send(b"\xff\xf4one\xff\xfa\x18\0xterm\xff\xf0 \r\0two\r\n/name telly\r\n");
    for client in [&mut anna, &mut telnet] {
        let who = client.next_text();
        assert!(who.ends_with(": one \u{240d}two"), "{who:?}");
        assert!(client.next_text().ends_with(" 改名 telly"));
    }
    telnet.half_close();
    telnet.expect_end();
    anna.expect_departure("telly");
}

/// Every byte is a read of its own, or nearly so.
#[test]
fn telnet_is_understood_byte_by_byte() {
    let server = Server::start(&[]);
    let mut anna = server.join();
    let mut telnet = stranger(&server, &mut anna, b"");
    for byte in [PUTTY_HELLO, b"a\xff\xfd\nb\r\n"].concat() {
        telnet.send(&[byte]);
    }
    anna.expect_said(telnet.who(), "ab");
    let echo = format!("{}: ab", telnet.who());
    // The last option has the number of a line feed.
    telnet.expect_line_bytes(&[REFUSALS, b"\xff\xfc"].concat());
    telnet.expect_line(&echo);
}

#[test]
fn plain_and_raw_take_everything_for_lines() {
    for (options, interrupt) in [(["--plain"], "\u{fffd}\u{fffd}".as_bytes()), (["--raw"], b"\xff\xf4")] {
        let server = Server::start(&options);
        let mut anna = server.join();
        let mut browser = stranger(&server, &mut anna, b"GET / HTTP/1.1\r\n\r\n");
        let who = browser.who().to_owned();
        for client in [&mut anna, &mut browser] {
            client.expect_said(&who, "GET / HTTP/1.1");
            client.expect_said(&who, "");
        }
        let mut telnet = stranger(&server, &mut anna, b"\xff\xf4\n");
        browser.expect_arrival(telnet.who());
        let said = [telnet.who().as_bytes(), b": ", interrupt].concat();
        for client in [&mut anna, &mut telnet] {
            client.expect_line_bytes(&said);
        }
    }
}
