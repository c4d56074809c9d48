//! Tokens that must not pass.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pulsestream_core::auth::Secret;
use pulsestream_core::error::ErrorKind;
use pulsestream_core::ports::auth::{Credential, Credentials, Origin, TenantAuth};
use pulsestream_jwks::Algorithm;
use serde_json::{Value, json};

use crate::support::{AUDIENCE, Application, ISSUER, NOW, Provider, Signer, base64url, claims, token, with};

/// The keys of the provider, those it publishes for something else, and those of an attacker.
struct Keys {
    rsa: Signer,
    p256: Signer,
    ed25519: Signer,
    encryption: Signer,
    wrapping: Signer,
    other_algorithm: Signer,
    twins: [Signer; 2],
    attacker: Signer,
}

impl Keys {
    fn new() -> Self {
        Self {
            rsa: Signer::rsa("rsa"),
            p256: Signer::p256("p256"),
            ed25519: Signer::ed25519("ed"),
            encryption: Signer::ed25519("encryption"),
            wrapping: Signer::ed25519("wrapping"),
            other_algorithm: Signer::rsa("other-algorithm"),
            twins: [Signer::ed25519("twin"), Signer::ed25519("twin")],
            attacker: Signer::ed25519("ed"),
        }
    }

    fn published(&self) -> Vec<Value> {
        let small =
            json!({"kty": "RSA", "kid": "small", "use": "sig", "n": base64url(&[0xC1; 128]), "e": "AQAB"});
        let mut keys: Vec<_> = [&self.rsa, &self.p256, &self.ed25519].map(Signer::jwk).into();
        keys.push(with(self.encryption.jwk(), "use", "enc"));
        keys.push(with(self.wrapping.jwk(), "key_ops", json!(["wrapKey"])));
        keys.push(with(self.other_algorithm.jwk(), "alg", "RS512"));
        keys.extend(self.twins.iter().map(Signer::jwk));
        keys.extend([
            small,
            json!({"kty": "oct", "kid": "shared", "k": base64url(b"secret")}),
            json!("no key"),
        ]);
        keys
    }
}

/// Signs with a shared secret, HS256.
fn hmac(secret: &[u8]) -> impl FnOnce(&str) -> Vec<u8> {
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret);
    move |signed| aws_lc_rs::hmac::sign(&key, signed.as_bytes()).as_ref().to_vec()
}

fn attacks(keys: &Keys, elsewhere: &str) -> Vec<(String, String)> {
    let mut list = of_header(keys, elsewhere);
    list.extend(of_signature(keys));
    list.extend(of_claims(&keys.ed25519));
    list.extend(of_form(&keys.ed25519));
    list
}

fn of_header(keys: &Keys, elsewhere: &str) -> Vec<(String, String)> {
    let (ed, body) = (&keys.ed25519, claims().to_string());
    let mut list = Vec::new();
    let mut add = |name: &str, token: String| list.push((name.to_owned(), token));
    for name in ["none", "None", "NONE", "nOnE", ""] {
        let header = with(ed.header(), "alg", name).to_string();
        add(&format!("alg {name:?} unsigned"), token(&header, &body, |_| Vec::new()));
        add(&format!("alg {name:?} signed"), ed.sign(&header, &body));
    }
    let hs = |id: &str| json!({"alg": "HS256", "typ": "JWT", "kid": id}).to_string();
    let modulus = keys.rsa.jwk()["n"].as_str().unwrap().to_owned();
    add("HS256 with the public key as the secret", token(&hs("rsa"), &body, hmac(modulus.as_bytes())));
    add(
        "HS256 with the key set entry as the secret",
        token(&hs("rsa"), &body, hmac(keys.rsa.jwk().to_string().as_bytes())),
    );
    add("HS256 with an empty secret", token(&hs("ed"), &body, hmac(b"")));
    add("HS256 with the published secret", token(&hs("shared"), &body, hmac(b"secret")));
    for algorithm in ["RS256", "ES256", "RS384", "PS256", "ES384", "HS512", "eddsa", "Ed25519"] {
        add(
            &format!("alg {algorithm} for an Ed25519 key"),
            ed.sign(&with(ed.header(), "alg", algorithm).to_string(), &body),
        );
    }
    for algorithm in ["ES256", "EdDSA", "PS256", "RS512"] {
        let header = with(keys.rsa.header(), "alg", algorithm).to_string();
        add(&format!("alg {algorithm} for an RSA key"), keys.rsa.sign(&header, &body));
    }
    let mut member = |name: &str, value: Value| {
        let label = format!("{name} {value}");
        add(&label, ed.sign(&with(ed.header(), name, value).to_string(), &body));
    };
    member("alg", Value::Null);
    member("alg", json!(["EdDSA"]));
    for kid in [
        json!("ED"),
        json!("ed "),
        json!("../../ed"),
        json!("ed' or '1'='1"),
        json!(""),
        json!(0),
        json!(["ed"]),
        Value::Null,
    ] {
        member("kid", kid);
    }
    member("jku", json!(elsewhere));
    member("x5u", json!(elsewhere));
    member("jwk", keys.attacker.jwk());
    member("x5c", json!(["MIIB"]));
    member("crit", json!(["exp"]));
    member("b64", json!(false));
    member("zip", json!("DEF"));
    member("enc", json!("A256GCM"));
    for kind in [json!("JWE"), json!("logout+jwt"), json!("dpop+jwt"), json!(""), json!(1)] {
        member("typ", kind);
    }
    let header = with(keys.attacker.header(), "jwk", keys.attacker.jwk()).to_string();
    add("a key in the header, signed with it", keys.attacker.sign(&header, &body));
    let header = with(keys.attacker.header(), "jku", elsewhere).to_string();
    add("a place in the header, signed with its key", keys.attacker.sign(&header, &body));
    add("alg twice", ed.sign(r#"{"alg":"none","alg":"EdDSA","kid":"ed"}"#, &body));
    add("kid twice", ed.sign(r#"{"alg":"EdDSA","kid":"rsa","kid":"ed"}"#, &body));
    add("a header that is a list", ed.sign(r#"["EdDSA"]"#, &body));
    add("no header", ed.sign("", &body));
    add("two headers", ed.sign(&format!("{0}{0}", ed.header()), &body));
    list
}

fn of_signature(keys: &Keys) -> Vec<(String, String)> {
    let (ed, body) = (&keys.ed25519, claims().to_string());
    let mut list = Vec::new();
    let mut add = |name: &str, token: String| list.push((name.to_owned(), token));
    add("the key of an attacker under the same id", keys.attacker.token(&claims()));
    add("a key for encryption", keys.encryption.token(&claims()));
    add("a key for wrapping", keys.wrapping.token(&claims()));
    add("a key for another algorithm", keys.other_algorithm.token(&claims()));
    add("the first of two keys of one id", keys.twins[0].token(&claims()));
    add("the second of two keys of one id", keys.twins[1].token(&claims()));
    let small = json!({"alg": "RS256", "kid": "small"}).to_string();
    add("a key that is too small", token(&small, &body, |_| vec![1; 128]));
    for (signer, length) in [(&keys.rsa, 256), (&keys.p256, 64), (ed, 64)] {
        let name = signer.algorithm();
        let header = signer.header().to_string();
        add(&format!("{name} without a signature"), token(&header, &body, |_| Vec::new()));
        add(&format!("{name} with zeros"), token(&header, &body, |_| vec![0; length]));
        add(&format!("{name} with ones"), token(&header, &body, |_| vec![0xFF; length]));
        let cut = |signed: &str| signer.signature(signed)[..length - 1].to_vec();
        add(&format!("{name} cut"), token(&header, &body, cut));
        let longer = |signed: &str| [signer.signature(signed), vec![0]].concat();
        add(&format!("{name} lengthened"), token(&header, &body, longer));
        let other = |_: &str| signer.signature("e30.e30");
        add(&format!("{name} of another token"), token(&header, &body, other));
        let good = signer.token(&claims());
        let (signed, signature) = good.rsplit_once('.').unwrap();
        let (header, _) = signed.split_once('.').unwrap();
        let raised = base64url(with(claims(), "role", "owner").to_string().as_bytes());
        add(&format!("{name} with other claims"), format!("{header}.{raised}.{signature}"));
    }
    // ECDSA in the form of certificates instead of that of RFC 7518: two integers in DER.
    let der = |signed: &str| [&[0x30, 0x44, 0x02, 0x20][..], &keys.p256.signature(signed)].concat();
    add("ES256 in DER", token(&keys.p256.header().to_string(), &body, der));
    list
}

fn of_claims(signer: &Signer) -> Vec<(String, String)> {
    let mut list = Vec::new();
    let mut change = |name: &str, value: Value| {
        list.push((format!("{name} {value}"), signer.token(&with(claims(), name, value))));
    };
    for name in ["iss", "aud", "sub", "iat", "exp", "tenant"] {
        change(name, Value::Null);
        change(name, json!(true));
        change(name, json!({}));
        change(name, json!(""));
    }
    for issuer in [format!("{ISSUER}/"), ISSUER.to_uppercase(), "https://evil.example".to_owned()] {
        change("iss", json!(issuer));
    }
    change("iss", json!([ISSUER]));
    for audience in [
        json!("other"),
        json!([]),
        json!(["other"]),
        json!("pulsestream "),
        json!([AUDIENCE, 1]),
        json!({"0": AUDIENCE}),
    ] {
        change("aud", audience);
    }
    for expiry in [
        json!("1768479000"),
        json!(1_768_479_000.5),
        json!(-1),
        json!(0),
        json!(NOW),
        json!(u64::MAX),
        json!(NOW + 86_401),
        json!([NOW + 600]),
    ] {
        change("exp", expiry);
    }
    for start in [json!(NOW + 6), json!("0"), json!(-1), json!(1.5)] {
        change("nbf", start.clone());
        change("iat", start);
    }
    change("iat", json!(i64::MIN));
    change("tenant", json!("x".repeat(256)));
    change("tenant", json!(["shop-a"]));
    change("tenant", json!(7));
    change("sub", json!("x".repeat(256)));
    change("sub", json!(7));
    let twice = |name: &str, value: &str| {
        let text = claims().to_string();
        (
            format!("{name} twice"),
            signer.sign(
                &signer.header().to_string(),
                &format!("{},\"{name}\":{value}}}", &text[..text.len() - 1]),
            ),
        )
    };
    list.extend([
        twice("tenant", "\"shop-b\""),
        twice("role", "\"owner\""),
        twice("exp", "9999999999"),
        twice("iss", "\"x\""),
    ]);
    for (name, text) in
        [("exp infinite", "1e999"), ("exp not a number", "NaN"), ("exp huge", "9223372036854775808")]
    {
        let raw = claims().to_string().replace(&(NOW + 600).to_string(), text);
        list.push((name.to_owned(), signer.sign(&signer.header().to_string(), &raw)));
    }
    list
}

fn of_form(signer: &Signer) -> Vec<(String, String)> {
    let good = signer.token(&claims());
    let parts: Vec<_> = good.split('.').collect();
    let (header, body) = (signer.header().to_string(), claims().to_string());
    let mut list = Vec::new();
    let mut add = |name: &str, token: String| list.push((name.to_owned(), token));
    add("empty", String::new());
    add("dots", "..".to_owned());
    add("two parts", parts[..2].join("."));
    add("four parts", format!("{good}.{}", parts[2]));
    add("five parts, as of an encrypted token", format!("{good}.{}.{}", parts[2], parts[2]));
    add("padded", format!("{good}=="));
    add("a line end", format!("{good}\n"));
    add("a space before", format!(" {good}"));
    add(
        "the other alphabet",
        format!("{}.{}.{}", parts[0], STANDARD.encode(format!("{body}??>>")), parts[2]),
    );
    add(
        "the JSON form",
        json!({"protected": parts[0], "payload": parts[1], "signature": parts[2]}).to_string(),
    );
    add("claims that are a list", signer.sign(&header, &format!("[{body}]")));
    add("claims that are no JSON", signer.sign(&header, "claims"));
    add("claims and more", signer.sign(&header, &format!("{body}{body}")));
    add("claims with a byte order mark", signer.sign(&header, &format!("\u{FEFF}{body}")));
    let deep = format!("{},\"x\":{}{}}}", &body[..body.len() - 1], "[".repeat(500), "]".repeat(500));
    add("claims that are deep", signer.sign(&header, &deep));
    add("too long", signer.token(&with(claims(), "x", "x".repeat(8_192))));
    list
}

#[tokio::test]
async fn every_attack_is_refused_alike() {
    let keys = Keys::new();
    let provider = Provider::start(keys.published()).await.unwrap();
    let elsewhere = Provider::start(vec![keys.attacker.jwk()]).await.unwrap();
    let application =
        Application::with(&provider, |config| config.extra_root_certificates.push(elsewhere.authority_pem()));
    for signer in [&keys.rsa, &keys.p256, &keys.ed25519] {
        assert!(application.show(&signer.token(&claims())).await.is_ok(), "{}", signer.algorithm());
    }
    let attacks = attacks(&keys, &elsewhere.url());
    assert!(attacks.len() >= 120, "{}", attacks.len());
    for (name, token) in attacks {
        let Err(error) = application.show(&token).await else { panic!("{name} passed") };
        assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{name}: {error}");
        assert_eq!(error.message(), "the credentials are not valid", "{name}");
        assert!(!error.to_string().contains("ed25519"), "{name}");
    }
    assert_eq!(elsewhere.requests(), 0, "no token says where keys are");
    assert_eq!(provider.requests(), 1);
}

#[tokio::test]
async fn an_algorithm_that_is_not_configured_is_refused() {
    let (rsa, ed25519) = (Signer::rsa("rsa"), Signer::ed25519("ed"));
    let provider = Provider::start(vec![rsa.jwk(), ed25519.jwk()]).await.unwrap();
    let application = Application::with(&provider, |config| config.algorithms = vec![Algorithm::Rs256]);
    assert!(application.show(&rsa.token(&claims())).await.is_ok());
    assert!(application.show(&ed25519.token(&claims())).await.is_err());
}

#[tokio::test]
async fn every_single_bit_of_a_token_counts() {
    let signer = Signer::ed25519("e");
    let provider = Provider::start(vec![signer.jwk()]).await.unwrap();
    let application = Application::new(&provider);
    let good = signer.token(&claims());
    for index in 0..good.len() {
        for bit in 0..7 {
            let mut bytes = good.clone().into_bytes();
            bytes[index] ^= 1 << bit;
            let changed = String::from_utf8(bytes).unwrap();
            assert!(application.show(&changed).await.is_err(), "byte {index} bit {bit}");
        }
    }
}

#[tokio::test]
async fn only_bearer_tokens_are_looked_at() {
    let signer = Signer::ed25519("e");
    let provider = Provider::start(vec![signer.jwk()]).await.unwrap();
    let application = Application::new(&provider);
    let good = || Secret::new(signer.token(&claims()));
    for credential in [Credential::Missing, Credential::ApiKey(good()), Credential::Ticket(good())] {
        let credentials = Credentials { credential, origin: Origin::default() };
        let error = application.auth.authenticate(&credentials).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    }
    assert_eq!(provider.requests(), 0);
}
