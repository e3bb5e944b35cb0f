//! A client's side of TLS: what is said becomes records, and records become what
//! was said. No sockets, and no more than one version and one root.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

/// Whom to believe.
#[derive(Clone, Debug)]
pub struct Config(Arc<ClientConfig>);

impl Config {
    /// Believes a server that has the certificate in a PEM file, or one by it.
    pub fn of_file(path: &Path) -> Result<Self, String> {
        let wrong = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
        let root = CertificateDer::from_pem_file(path).map_err(|e| wrong(&e))?;
        let mut roots = RootCertStore::empty();
        roots.add(root).map_err(|e| wrong(&e))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| wrong(&e))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }

    /// A session whose handshake has not begun.
    pub fn session(&self) -> Box<Tls> {
        let name = ServerName::from(std::net::IpAddr::from(Ipv4Addr::LOCALHOST));
        let mut session = ClientConnection::new(self.0.clone(), name).expect("an address will do");
        session.set_buffer_limit(None);
        Box::new(Tls {
            session,
            sealed: vec![],
            header: [0; HEADER],
            header_len: 0,
            left: 0,
        })
    }
}

/// One connection's session.
pub struct Tls {
    session: ClientConnection,
    /// Records that have not been sent.
    sealed: Vec<u8>,
    /// The header of the record that is coming in, as far as it is here, and how many
    /// bytes of it are to come after that.
    header: [u8; HEADER],
    header_len: usize,
    left: usize,
}

/// A record of TLS 1.3 has this much before what is sealed in it, and so much more
/// sealed than was said: its kind, and a tag.
const HEADER: usize = 5;
const OVERHEAD: usize = 1 + 16;

impl Tls {
    /// Takes what is to be said; gives all records that are to be sent. During the
    /// handshake it keeps what is to be said, and gives the handshake's.
    pub fn seal(&mut self, plain: &mut Vec<u8>) -> &mut Vec<u8> {
        let memory = "memory takes everything";
        self.session.writer().write_all(plain).expect(memory);
        plain.clear();
        while self.session.wants_write() {
            self.session.write_tls(&mut self.sealed).expect(memory);
        }
        &mut self.sealed
    }

    /// Is nothing waiting to be sent?
    pub fn is_sent(&self) -> bool {
        self.sealed.is_empty() && !self.session.wants_write()
    }

    /// How many bytes were said in the records that end in `sealed`. To tell that,
    /// nothing has to be opened.
    pub fn count(&mut self, mut sealed: &[u8]) -> usize {
        let mut plain = 0;
        while !sealed.is_empty() {
            if self.header_len < HEADER {
                let n = sealed.len().min(HEADER - self.header_len);
                self.header[self.header_len..][..n].copy_from_slice(&sealed[..n]);
                self.header_len += n;
                self.left = usize::from(u16::from_be_bytes([self.header[3], self.header[4]]));
                sealed = &sealed[n..];
            } else {
                let n = sealed.len().min(self.left);
                self.left -= n;
                sealed = &sealed[n..];
                if self.left == 0 {
                    let len = u16::from_be_bytes([self.header[3], self.header[4]]);
                    plain += usize::from(len).saturating_sub(OVERHEAD);
                    self.header_len = 0;
                }
            }
        }
        plain
    }

    /// Puts what is in the records to the front of `plain`; returns how much that is.
    /// Of a record whose end is still to come it is told when that comes.
    pub fn open(&mut self, mut sealed: &[u8], plain: &mut [u8]) -> Result<usize, String> {
        // It has to know where the next record begins.
        self.count(sealed);
        let mut at = 0;
        while !sealed.is_empty() {
            let read = self.session.read_tls(&mut sealed);
            read.map_err(|e| format!("TLS: {e}"))?;
            let state = self.session.process_new_packets();
            let n = state
                .map_err(|e| format!("TLS: {e}"))?
                .plaintext_bytes_to_read();
            let read = self.session.reader().read_exact(&mut plain[at..at + n]);
            read.map_err(|e| format!("TLS: {e}"))?;
            at += n;
        }
        Ok(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_is_said_however_it_is_cut() {
        let record =
            |len: usize| [&[23, 3, 3, (len >> 8) as u8, len as u8][..], &vec![7; len]].concat();
        let all = [
            record(OVERHEAD + 300),
            record(OVERHEAD + 1),
            record(OVERHEAD),
        ]
        .concat();
        for size in 1..=all.len() {
            let mut tls = session();
            let parts = all.chunks(size).map(|part| tls.count(part));
            assert_eq!(parts.sum::<usize>(), 301, "{size}");
        }
        let mut tls = session();
        assert_eq!(tls.count(&all[..HEADER + OVERHEAD + 299]), 0);
        assert_eq!(tls.count(&all[HEADER + OVERHEAD + 299..][..1]), 300);
    }

    fn session() -> Box<Tls> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        Config(Arc::new(config)).session()
    }
}
