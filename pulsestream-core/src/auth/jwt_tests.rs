//! Tokens that must not pass, and the two that must.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::auth::secret::SecretBytes;
use crate::auth::{SigningKey, mac};

const NOW: i64 = 1_800_000_000;
const KID: &str = "key-one";

fn settings() -> AuthSettings {
    AuthSettings { issuer: "https://ps.example".into(), audience: "ps-api".into(), ..AuthSettings::default() }
}

fn key(kid: &str, byte: u8, verify_until: Option<i64>) -> SigningKey {
    SigningKey {
        kid: kid.to_owned(),
        secret: SecretBytes::new([byte; 32]),
        verify_until: verify_until.map(Timestamp::from_seconds),
    }
}

fn codec() -> TokenCodec {
    let keys = vec![key(KID, 1, None), key("key-old", 2, Some(NOW + 60)), key("key-gone", 3, Some(NOW))];
    TokenCodec::new(&Keyring { keys, pepper: SecretBytes::new([9; 32]) }, &settings())
}

fn now() -> Timestamp {
    Timestamp::from_seconds(NOW)
}

fn header() -> Value {
    json!({"alg": "HS256", "typ": "JWT", "kid": KID})
}

fn claims() -> Value {
    json!({
        "iss": "https://ps.example", "aud": "ps-api", "exp": NOW + 1_800, "nbf": NOW, "iat": NOW,
        "jti": "01900000-0000-7000-8000-000000000001", "sub": "01900000-0000-7000-8000-000000000002",
        "tenant": "01900000-0000-7000-8000-000000000003", "role": "viewer", "typ": "access",
        "sid": "01900000-0000-7000-8000-000000000004",
    })
}

/// Signs any bytes as header and claims with a key of 32 equal bytes.
fn signed(header: &str, claims: &str, byte: u8) -> String {
    let body = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let mac = mac::hmac_sha256(&[byte; 32], &[body.as_bytes()]);
    format!("{body}.{}", URL_SAFE_NO_PAD.encode(mac))
}

fn with(value: Value, key: &str, other: impl Into<Value>) -> String {
    let mut value = value;
    value[key] = other.into();
    value.to_string()
}

fn without(value: Value, key: &str) -> String {
    let mut value = value;
    value.as_object_mut().unwrap().remove(key);
    value.to_string()
}

fn good() -> String {
    signed(&header().to_string(), &claims().to_string(), 1)
}

fn verify(token: &str) -> Result<AccessClaims> {
    codec().verify(token, now())
}

/// Returns every attack with its name.
fn attacks() -> Vec<(String, String)> {
    let (head, body) = (header().to_string(), claims().to_string());
    let good = good();
    let parts: Vec<&str> = good.split('.').collect();
    let mut list: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, token: String| list.push((name.to_owned(), token));

    for alg in [
        "none", "None", "NONE", "nOnE", "", "HS384", "HS512", "RS256", "ES256", "PS256", "EdDSA", "hs256",
        "HS256 ",
    ] {
        add(&format!("alg {alg:?}"), signed(&with(header(), "alg", alg), &body, 1));
    }
    add("alg none, empty signature", {
        let head = URL_SAFE_NO_PAD.encode(with(header(), "alg", "none"));
        format!("{head}.{}.", parts[1])
    });
    add("alg null", signed(&with(header(), "alg", Value::Null), &body, 1));
    add("alg list", signed(&with(header(), "alg", json!(["HS256"])), &body, 1));
    add("no alg", signed(&without(header(), "alg"), &body, 1));
    add(
        "two algs",
        signed(&format!(r#"{{"alg":"none","alg":"HS256","typ":"JWT","kid":"{KID}"}}"#), &body, 1),
    );
    add("typ of another kind", signed(&with(header(), "typ", "at+jwt"), &body, 1));
    add("no typ", signed(&without(header(), "typ"), &body, 1));
    add("no kid", signed(&without(header(), "kid"), &body, 1));
    add("unknown kid", signed(&with(header(), "kid", "key-two"), &body, 1));
    add("kid is a path", signed(&with(header(), "kid", "../../dev/null"), &body, 0));
    add("kid is SQL", signed(&with(header(), "kid", "x' or '1'='1"), &body, 1));
    add("kid of another key", signed(&with(header(), "kid", "key-old"), &body, 1));
    add("key past its grace", signed(&with(header(), "kid", "key-gone"), &body, 3));
    for extra in ["jku", "x5u", "jwk", "x5c", "crit", "b64", "zip", "cty", "enc"] {
        add(
            &format!("header {extra}"),
            signed(&with(header(), extra, "https://evil.example/keys"), &body, 1),
        );
    }
    add("crit list", signed(&with(header(), "crit", json!(["exp"])), &body, 1));
    add("other key", signed(&head, &body, 7));
    add("empty key", {
        let body = format!("{}.{}", parts[0], parts[1]);
        let mac: [u8; 32] = mac::keyed(b"", &[body.as_bytes()]).finalize().into_bytes().into();
        format!("{body}.{}", URL_SAFE_NO_PAD.encode(mac))
    });
    add("empty signature", format!("{}.{}.", parts[0], parts[1]));
    add("no signature", format!("{}.{}", parts[0], parts[1]));
    add("signature of another token", {
        let other = signed(&head, &with(claims(), "role", "owner"), 1);
        format!("{}.{}.{}", parts[0], parts[1], other.rsplit('.').next().unwrap())
    });
    add("signature cut", good[..good.len() - 2].to_owned());
    add("signature longer", format!("{good}AAAA"));
    add("signature padded", format!("{good}="));
    add("signature's unused bits", {
        // 32 bytes leave two unused bits in the last character; only one spelling is canonical.
        let last = good.as_bytes()[good.len() - 1];
        let next = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let place = next.iter().position(|byte| *byte == last).unwrap();
        format!("{}{}", &good[..good.len() - 1], char::from(next[place | 1]))
    });
    add(
        "claims changed",
        format!("{}.{}.{}", parts[0], URL_SAFE_NO_PAD.encode(with(claims(), "role", "owner")), parts[2]),
    );
    add(
        "header changed",
        format!("{}.{}.{}", URL_SAFE_NO_PAD.encode(with(header(), "kid", "key-old")), parts[1], parts[2]),
    );
    add("four parts", format!("{good}.{}", parts[2]));
    add("five parts, as JWE", format!("{}.{}.{}.{}.{}", parts[0], parts[1], parts[2], parts[1], parts[2]));
    add("one part", parts[1].to_owned());
    add("nothing", String::new());
    add("dots", "..".to_owned());
    add("white space before", format!(" {good}"));
    add("white space after", format!("{good}\n"));
    add("standard base64", good.replacen('-', "+", 1).replacen('_', "/", 1) + "+");
    add("not ASCII", format!("{good}\u{e9}"));
    add("NUL", format!("{good}\0"));
    add("too long", signed(&head, &with(claims(), "iss", "x".repeat(4_000)), 1));

    for name in ["iss", "aud", "exp", "nbf", "iat", "jti", "sub", "tenant", "role", "typ", "sid"] {
        add(&format!("no {name}"), signed(&head, &without(claims(), name), 1));
        add(&format!("{name} null"), signed(&head, &with(claims(), name, Value::Null), 1));
        let twice = format!("{{\"{name}\":{},{}", claims()[name], &body[1..]);
        add(&format!("{name} twice"), signed(&head, &twice, 1));
    }
    add("wrong iss", signed(&head, &with(claims(), "iss", "https://ps.example/"), 1));
    add("wrong aud", signed(&head, &with(claims(), "aud", "other-api"), 1));
    add("aud list", signed(&head, &with(claims(), "aud", json!(["ps-api"])), 1));
    add("wrong typ", signed(&head, &with(claims(), "typ", "ticket"), 1));
    add("refresh typ", signed(&head, &with(claims(), "typ", "refresh"), 1));
    add("unknown role", signed(&head, &with(claims(), "role", "root"), 1));
    add("tenant is a slug", signed(&head, &with(claims(), "tenant", "shop"), 1));
    add("sub is a number", signed(&head, &with(claims(), "sub", 1), 1));
    add("unknown claim", signed(&head, &with(claims(), "scope", "admin"), 1));
    add("claims are a list", signed(&head, "[]", 1));
    add("claims are a string", signed(&head, "\"x\"", 1));
    add("claims with a tail", signed(&head, &format!("{body}{{}}"), 1));
    add("claims are no JSON", signed(&head, "exp=1", 1));
    add("claims are no UTF-8", {
        let body = format!("{}.{}", parts[0], URL_SAFE_NO_PAD.encode([0xff, 0xfe]));
        let mac = mac::hmac_sha256(&[1; 32], &[body.as_bytes()]);
        format!("{body}.{}", URL_SAFE_NO_PAD.encode(mac))
    });

    for (name, exp) in [
        ("string", json!((NOW + 1_800).to_string())),
        ("float", json!(1_800_001_800.5)),
        ("whole float", json!(1_800_001_800.0)),
        ("true", json!(true)),
        ("zero", json!(0)),
        ("negative", json!(-1)),
        ("past", json!(NOW - 6)),
        ("i64 max", json!(i64::MAX)),
        ("u64 max", json!(u64::MAX)),
        ("same as iat", json!(NOW)),
        ("beyond the longest lifetime", json!(NOW + 1_801)),
    ] {
        add(&format!("exp {name}"), signed(&head, &with(claims(), "exp", exp), 1));
    }
    let raw_exp = |exp: &str| body.replace(&(NOW + 1_800).to_string(), exp);
    add("exp overflow", signed(&head, &raw_exp("99999999999999999999999"), 1));
    add("exp exponent", signed(&head, &raw_exp("1.8000018e9"), 1));
    add("exp infinite", signed(&head, &raw_exp("1e999"), 1));
    add("exp NaN", signed(&head, &raw_exp("NaN"), 1));
    add("nbf future", signed(&head, &with(claims(), "nbf", NOW + 6), 1));
    add("nbf string", signed(&head, &with(claims(), "nbf", "0"), 1));
    add("nbf negative", signed(&head, &with(claims(), "nbf", -1), 1));
    add("iat future", signed(&head, &with(claims(), "iat", NOW + 6), 1));
    add("iat negative", signed(&head, &with(claims(), "iat", i64::MIN), 1));
    list
}

#[test]
fn every_attack_is_refused_alike() {
    let attacks = attacks();
    assert!(attacks.len() >= 60, "{}", attacks.len());
    for (name, token) in attacks {
        let error = verify(&token).expect_err(&name);
        assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{name}");
        if name != "exp past" {
            assert_eq!(error.to_string(), refused().to_string(), "{name}");
        }
    }
}

#[test]
fn the_good_token_passes_and_an_old_key_does_in_its_grace() {
    let claims_read = verify(&good()).unwrap();
    assert_eq!(claims_read.role, Role::Viewer);
    let old = signed(&with(header(), "kid", "key-old"), &claims().to_string(), 2);
    assert!(verify(&old).is_ok());
    assert!(codec().verify::<AccessClaims>(&old, Timestamp::from_seconds(NOW + 60)).is_err());
    assert_eq!(codec().sign(&claims_read).unwrap(), codec().sign(&claims_read).unwrap());
    assert_eq!(verify(codec().sign(&claims_read).unwrap().expose()).unwrap(), claims_read);
}

#[test]
fn the_leeway_is_five_seconds_and_no_more() {
    let token = good();
    let at = |seconds: i64| codec().verify::<AccessClaims>(&token, Timestamp::from_seconds(seconds));
    assert!(at(NOW - 5).is_ok());
    assert!(at(NOW - 6).is_err());
    assert!(at(NOW + 1_804).is_ok());
    let expired = at(NOW + 1_805).unwrap_err();
    assert!(expired.message().contains("expired"));
}

#[test]
fn a_ticket_is_no_access_token_and_the_reverse() {
    let access = verify(&good()).unwrap();
    let ticket = TicketClaims {
        iss: access.iss.clone(),
        aud: access.aud.clone(),
        exp: NOW + 30,
        nbf: NOW,
        iat: NOW,
        jti: access.jti,
        tenant: access.tenant,
        typ: TokenUse::Ticket,
        holder: TicketHolder::User { user: access.sub, session: access.sid },
    };
    let token = codec().sign(&ticket).unwrap();
    assert_eq!(codec().verify::<TicketClaims>(token.expose(), now()).unwrap(), ticket);
    assert!(verify(token.expose()).is_err());
    assert!(codec().verify::<TicketClaims>(&good(), now()).is_err());
    // A ticket dressed up with the typ of the other use.
    let dressed = TicketClaims { typ: TokenUse::Access, ..ticket };
    assert!(codec().verify::<TicketClaims>(codec().sign(&dressed).unwrap().expose(), now()).is_err());
}

#[test]
fn every_single_bit_of_a_token_counts() {
    let token = good();
    for index in 0..token.len() {
        for bit in 0..7 {
            let mut bytes = token.clone().into_bytes();
            bytes[index] ^= 1 << bit;
            let changed = String::from_utf8(bytes).unwrap();
            assert!(verify(&changed).is_err(), "byte {index} bit {bit}");
        }
    }
}

#[test]
fn the_signature_is_that_of_rfc_7515_appendix_a_1() {
    let key = URL_SAFE_NO_PAD
        .decode("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow")
        .unwrap();
    let signed = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.\
                  eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let mac = signature(&KeyState(mac::keyed(&key, &[])), signed);
    assert_eq!(URL_SAFE_NO_PAD.encode(mac), "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
    // The header of the vector has no kid: genuine or not, such a token is none of ours.
    let token = format!("{signed}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
    assert!(verify(&token).is_err());
}

#[test]
fn a_new_keyring_has_a_new_signature() {
    let (env, _) = crate::env::Env::manual(now(), 5);
    let mut ring = Keyring::generate(&env).unwrap();
    let before = TokenCodec::new(&ring, &settings());
    let claims = verify(&good()).unwrap();
    let token = before.sign(&claims).unwrap();
    ring.rotate(&env, Duration::from_secs(3_600)).unwrap();
    let after = TokenCodec::new(&ring, &settings());
    assert!(after.verify::<AccessClaims>(token.expose(), now()).is_ok());
    assert_ne!(after.sign(&claims).unwrap(), token);
    assert!(before.names_unknown_key(after.sign(&claims).unwrap().expose()));
    assert!(!before.names_unknown_key("garbage"));
    ring.keys.truncate(1);
    assert!(TokenCodec::new(&ring, &settings()).verify::<AccessClaims>(token.expose(), now()).is_err());
}
