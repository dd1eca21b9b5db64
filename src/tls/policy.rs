use super::client_auth::ClientPolicy;
use super::credential::Credential;
use super::problem::Problem;
use super::tickets::TicketKeys;
use crate::conf::model::BindTls;
use crate::material::Files;
use rustls::pki_types::UnixTime;
use std::sync::Arc;
use std::time::Duration;
pub struct TlsPolicy {
    c: ClientPolicy,
}
impl TlsPolicy {
    pub fn client(&self) -> &ClientPolicy {
        &self.c
    }
    pub fn alpn(&self) -> &[Vec<u8>] {
        &[]
    }
    pub fn config(&self, _: bool, _: bool) -> &Arc<rustls::ServerConfig> {
        unimplemented!()
    }
    pub fn choose(&self, _: Option<&str>, _: &[rustls::SignatureScheme]) -> Option<&Arc<Credential>> {
        None
    }
    pub fn describe(&self) -> Vec<String> {
        vec![]
    }
}
pub fn build(
    _: &BindTls,
    _: &Files,
    _: &Arc<TicketKeys>,
    _: Duration,
    _: &str,
    _: UnixTime,
) -> (Option<TlsPolicy>, Vec<Problem>) {
    unimplemented!()
}
