//! Keys of the provider, and tokens that they sign.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

const MADE: &str = "a key that was just made works";

#[derive(Debug)]
enum Private {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// One key.
#[derive(Debug)]
pub struct Signer {
    private: Private,
    id: String,
}

impl Signer {
    /// Makes an RSA key of 2,048 bits.
    pub fn rsa(id: &str) -> Self {
        Self { private: Private::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).expect(MADE)), id: id.to_owned() }
    }

    /// Makes a P-256 key.
    pub fn p256(id: &str) -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect(MADE);
        Self { private: Private::P256(key), id: id.to_owned() }
    }

    /// Makes an Ed25519 key.
    pub fn ed25519(id: &str) -> Self {
        Self { private: Private::Ed25519(Ed25519KeyPair::generate().expect(MADE)), id: id.to_owned() }
    }

    /// The public key as a provider publishes it.
    pub fn jwk(&self) -> Value {
        let mut jwk = match &self.private {
            Private::Rsa(key) => {
                let public = key.public_key();
                let (n, e) = (public.modulus(), public.exponent());
                json!({
                    "kty": "RSA", "alg": "RS256",
                    "n": base64url(n.big_endian_without_leading_zero()),
                    "e": base64url(e.big_endian_without_leading_zero()),
                })
            }
            Private::P256(key) => {
                let point = key.public_key().as_ref();
                json!({"kty": "EC", "crv": "P-256", "x": base64url(&point[1..33]), "y": base64url(&point[33..])})
            }
            Private::Ed25519(key) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": base64url(key.public_key().as_ref())})
            }
        };
        jwk["kid"] = json!(self.id);
        jwk["use"] = json!("sig");
        jwk
    }

    /// The name of its algorithm.
    pub fn algorithm(&self) -> &'static str {
        match self.private {
            Private::Rsa(_) => "RS256",
            Private::P256(_) => "ES256",
            Private::Ed25519(_) => "EdDSA",
        }
    }

    /// The header of a token that this key signs.
    pub fn header(&self) -> Value {
        json!({"alg": self.algorithm(), "typ": "JWT", "kid": self.id})
    }

    /// Signs bytes.
    pub fn signature(&self, signed: &str) -> Vec<u8> {
        let (message, random) = (signed.as_bytes(), SystemRandom::new());
        match &self.private {
            Private::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).expect(MADE);
                signature
            }
            Private::P256(key) => key.sign(&random, message).expect(MADE).as_ref().to_vec(),
            Private::Ed25519(key) => key.sign(message).as_ref().to_vec(),
        }
    }

    /// Signs a header and claims as they are written.
    pub fn sign(&self, header: &str, claims: &str) -> String {
        token(header, claims, |signed| self.signature(signed))
    }

    /// Signs claims with the header of this key.
    pub fn token(&self, claims: &Value) -> String {
        self.sign(&self.header().to_string(), &claims.to_string())
    }
}

/// Writes a token with whatever signature.
pub fn token(header: &str, claims: &str, signature: impl FnOnce(&str) -> Vec<u8>) -> String {
    let signed = format!("{}.{}", base64url(header.as_bytes()), base64url(claims.as_bytes()));
    let signature = base64url(&signature(&signed));
    format!("{signed}.{signature}")
}

/// Encodes without padding.
pub fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
