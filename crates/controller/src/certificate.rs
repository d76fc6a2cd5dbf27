//! The certificate of the admission webhook: made here, kept in a Secret that the replicas share, and made anew before it expires.
//!
//! Each certificate has an authority of its own, whose key is thrown away once it has signed: nobody can sign another. The Secret also has the
//! authority before, and the webhook configuration names both, so that a replica that still serves the old certificate is believed
//! until it has read the new one. The price is that a certificate cannot be made anew without the configuration being written too.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

use crate::error::{Error, code};

/// How long a certificate is valid.
const LIFETIME_MS: i64 = 90 * 86_400_000;
/// How long before its end it is made anew; all alerts of its age have fired by then.
const RENEW_BEFORE_MS: i64 = 30 * 86_400_000;
/// How far clocks may differ.
const SKEW_MS: i64 = 3_600_000;
/// Where the Secret tells the end of the certificate, Unix milliseconds.
const EXPIRES: &str = "weir.dev/expires-ms";
/// Where it tells for which names the certificate is.
const NAMES: &str = "weir.dev/names";

/// What the webhook serves, and by what it is believed. Texts are PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Material {
    /// The authorities that are believed: the one of this certificate, and the one before.
    pub authorities: String,
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
    /// When it expires, Unix milliseconds.
    pub expires_ms: i64,
}

/// Without the key.
impl std::fmt::Debug for Material {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Material").field("expires_ms", &self.expires_ms).finish_non_exhaustive()
    }
}

impl Material {
    /// Makes a certificate for the names, and believes in `before` too.
    pub fn new(names: &[String], before: Option<&str>, now_ms: i64) -> Result<Material, Error> {
        let fault = |e: rcgen::Error| Error::Certificate(e.to_string());
        let at = |ms: i64| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_millis(ms.max(0).unsigned_abs());
        let expires_ms = now_ms + LIFETIME_MS;
        let dated = |mut params: CertificateParams, name: &str| {
            (params.not_before, params.not_after) = (at(now_ms - SKEW_MS), at(expires_ms));
            params.distinguished_name.push(DnType::CommonName, name);
            params
        };
        let mut authority =
            dated(CertificateParams::new(Vec::new()).map_err(fault)?, "weir-controller webhook authority");
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let authority_key = KeyPair::generate().map_err(fault)?;
        let authority_pem = authority.self_signed(&authority_key).map_err(fault)?.pem();
        let issuer = Issuer::new(authority, authority_key);
        let mut leaf = dated(CertificateParams::new(names).map_err(fault)?, "weir-controller webhook");
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().map_err(fault)?;
        let certificate = leaf.signed_by(&key, &issuer).map_err(fault)?.pem();
        // Of the authorities before only the newest is kept.
        let end = "-----END CERTIFICATE-----\n";
        let newest = before.and_then(|pem| pem.find(end).map(|at| &pem[..at + end.len()])).unwrap_or_default();
        let authorities = format!("{authority_pem}{newest}");
        Ok(Material { authorities, certificate, key: key.serialize_pem(), expires_ms })
    }

    /// Whether it is time for another.
    pub fn is_due(&self, now_ms: i64) -> bool {
        now_ms >= self.expires_ms - RENEW_BEFORE_MS
    }

    fn from_secret(secret: &Secret, names: &str) -> Option<Material> {
        let annotations = secret.metadata.annotations.as_ref()?;
        let text = |key: &str| String::from_utf8(secret.data.as_ref()?.get(key)?.0.clone()).ok();
        (annotations.get(NAMES)? == names).then_some(())?;
        Some(Material {
            authorities: text("ca.crt")?,
            certificate: text("tls.crt")?,
            key: text("tls.key")?,
            expires_ms: annotations.get(EXPIRES)?.parse().ok()?,
        })
    }

    fn fill(&self, secret: &mut Secret, names: &str) {
        let annotations = secret.metadata.annotations.get_or_insert_default();
        annotations.insert(EXPIRES.to_owned(), self.expires_ms.to_string());
        annotations.insert(NAMES.to_owned(), names.to_owned());
        let entry = |key: &str, text: &str| (key.to_owned(), ByteString(text.as_bytes().to_vec()));
        secret.data = Some(BTreeMap::from([
            entry("ca.crt", &self.authorities),
            entry("tls.crt", &self.certificate),
            entry("tls.key", &self.key),
        ]));
    }
}

/// The certificate of the Secret; made, or made anew, where that is due. Of replicas that do so at the same time one wins, and all get
/// the certificate of that one.
pub async fn shared(
    client: &Client,
    namespace: &str,
    name: &str,
    names: &[String],
    now_ms: i64,
) -> Result<Material, Error> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let joined = names.join(",");
    // A lost race is followed by a read that finds the winner's; a second loss means that it changes all the time.
    for _ in 0..3 {
        let call = |verb: &str| Error::kubernetes(format!("{verb} Secret {namespace}/{name}"));
        let found = api.get_opt(name).await.map_err(call("reading"))?;
        let current = found.as_ref().and_then(|secret| Material::from_secret(secret, &joined));
        if let Some(current) = current.as_ref().filter(|current| !current.is_due(now_ms)) {
            return Ok(current.clone());
        }
        let made = Material::new(names, current.as_ref().map(|c| c.authorities.as_str()), now_ms)?;
        let is_new = found.is_none();
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        let mut secret =
            found.unwrap_or(Secret { metadata, type_: Some("kubernetes.io/tls".to_owned()), ..Secret::default() });
        made.fill(&mut secret, &joined);
        let written = if is_new {
            api.create(&PostParams::default(), &secret).await
        } else {
            // Refused where somebody wrote it since it was read.
            api.replace(name, &PostParams::default(), &secret).await
        };
        match written {
            Ok(_) => return Ok(made),
            Err(error) if code(&error) == 409 => {}
            Err(error) => return Err(call("writing")(error)),
        }
    }
    Err(Error::Certificate(format!("Secret {namespace}/{name} changes while it is written")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_due_a_month_before_its_end_and_the_authority_before_is_believed_too() {
        let names = ["127.0.0.1".to_owned()];
        let first = Material::new(&names, None, 0).expect("made");
        assert!(!first.is_due(LIFETIME_MS - RENEW_BEFORE_MS - 1) && first.is_due(LIFETIME_MS - RENEW_BEFORE_MS));
        let second = Material::new(&names, Some(&first.authorities), 1).expect("made");
        let third = Material::new(&names, Some(&second.authorities), 2).expect("made");
        let count = |m: &Material| m.authorities.matches("BEGIN CERTIFICATE").count();
        assert_eq!([count(&first), count(&second), count(&third)], [1, 2, 2]);
        assert!(second.authorities.ends_with(&first.authorities), "the one before stands behind");
        assert!(!third.authorities.contains(&first.authorities), "older ones are dropped");
        assert!(!format!("{first:?}").contains("KEY"), "the key is not shown");
    }

    #[test]
    fn a_secret_for_other_names_is_not_used() {
        let made = Material::new(&["a".to_owned()], None, 0).expect("made");
        let mut secret = Secret::default();
        made.fill(&mut secret, "a");
        assert_eq!(Material::from_secret(&secret, "a"), Some(made));
        assert_eq!(Material::from_secret(&secret, "b"), None);
    }
}
