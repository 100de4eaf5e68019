//! AWS Signature Version 4 (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>)
//! for requests whose path needs no encoding and that have no query.

use aws_lc_rs::hmac;
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// Who signs.
#[derive(Clone, Debug)]
pub(super) struct AccessKey {
    pub(super) id: String,
    pub(super) secret: SecretString,
    /// Goes with keys that end.
    pub(super) session: Option<SecretString>,
}

/// What is signed.
pub(super) struct Signed<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    /// Names in lower case and in their order, values as they are sent.
    pub(super) headers: &'a [(&'a str, &'a str)],
    pub(super) body: &'a [u8],
    pub(super) region: &'a str,
    pub(super) service: &'a str,
    pub(super) at: Timestamp,
}

/// As `X-Amz-Date` has it.
pub(super) fn date(at: Timestamp) -> String {
    at.strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// The value of the `Authorization` header.
pub(super) fn authorization(key: &AccessKey, request: &Signed<'_>) -> String {
    let (at, day) = (date(request.at), request.at.strftime("%Y%m%d").to_string());
    let names = request.headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    let lines: Vec<_> = request.headers.iter().map(|(name, value)| format!("{name}:{}", value.trim())).collect();
    let (lines, body) = (lines.join("\n"), hash(request.body));
    let canonical = format!("{}\n{}\n\n{lines}\n\n{names}\n{body}", request.method, request.path);
    let scope = format!("{day}/{}/{}/aws4_request", request.region, request.service);
    let text = format!("{ALGORITHM}\n{at}\n{scope}\n{}", hash(canonical.as_bytes()));
    let secret = format!("AWS4{}", key.secret.expose_secret());
    let signing = [&day, request.region, request.service, "aws4_request"]
        .iter()
        .fold(secret.into_bytes(), |key, part| mac(&key, part.as_bytes()));
    let signature = hex::encode(mac(&signing, text.as_bytes()));
    format!("{ALGORITHM} Credential={}/{scope}, SignedHeaders={names}, Signature={signature}", key.id)
}

fn hash(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(session: Option<&str>) -> AccessKey {
        AccessKey {
            id: "AKIDEXAMPLE".to_owned(),
            secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
            session: session.map(Into::into),
        }
    }

    fn signature(method: &str, headers: &[(&str, &str)], body: &[u8]) -> String {
        let at = "2015-08-30T12:36:00Z".parse().unwrap();
        let signed = Signed { method, path: "/", headers, body, region: "us-east-1", service: "service", at };
        let header = authorization(&key(None), &signed);
        let scope = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=";
        assert!(header.starts_with(scope), "{header}");
        header.rsplit_once("Signature=").unwrap().1.to_owned()
    }

    /// From AWS's own test suite: get-vanilla, post-vanilla, post-x-www-form-urlencoded and post-sts-header-before.
    #[test]
    fn aws_own_vectors_come_out() {
        let (host, date) = (("host", "example.amazonaws.com"), ("x-amz-date", "20150830T123600Z"));
        assert_eq!(
            signature("GET", &[host, date], b""),
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
        );
        assert_eq!(
            signature("POST", &[host, date], b""),
            "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"
        );
        let form = ("content-type", "application/x-www-form-urlencoded");
        assert_eq!(
            signature("POST", &[form, host, date], b"Param1=value1"),
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"
        );
        let token = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTf\
                     lfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFv\
                     lRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4r\
                     vx3iSIlTJabIQwj2ICCR/oLxBA==";
        assert_eq!(
            signature("POST", &[host, date, ("x-amz-security-token", token)], b""),
            "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead"
        );
    }
}
