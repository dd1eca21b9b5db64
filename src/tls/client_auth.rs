use super::identity::Verdict;
use rustls::pki_types::{CertificateDer, UnixTime};
pub struct ClientPolicy;
#[derive(Clone, Copy)]
pub enum Handshake {
    Full,
    Resumed,
}
#[derive(Debug, Clone)]
pub struct Refusal {
    pub reason: String,
    pub certificate: Option<Names>,
}
#[derive(Debug, Clone)]
pub struct Names {
    pub subject: String,
    pub issuer: String,
    pub serial: Vec<u8>,
}
pub fn judge(
    _: &ClientPolicy,
    _: Option<&[CertificateDer<'_>]>,
    _: Handshake,
    _: UnixTime,
) -> Result<Verdict, Refusal> {
    unimplemented!()
}
pub fn take_refusal() -> Option<Refusal> {
    None
}
