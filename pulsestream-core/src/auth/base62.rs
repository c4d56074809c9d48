//! Base62: digits, upper-case and lower-case letters, in that order.

use crate::env::Env;
use crate::error::Result;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Appends `number` as `length` digits, at most 32, with leading zeros; higher digits are cut off.
pub(crate) fn push_base62(text: &mut String, mut number: u128, length: usize) {
    let mut digits = [b'0'; 32];
    let length = length.min(digits.len());
    for digit in digits[..length].iter_mut().rev() {
        *digit = ALPHABET[(number % 62) as usize];
        number /= 62;
    }
    text.extend(digits[..length].iter().map(|digit| char::from(*digit)));
}

/// Reads digits back; `None` for another character or a number above 128 bits.
pub(crate) fn from_base62(text: &str) -> Option<u128> {
    text.bytes().try_fold(0_u128, |number, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'A'..=b'Z' => byte - b'A' + 10,
            b'a'..=b'z' => byte - b'a' + 36,
            _ => return None,
        };
        number.checked_mul(62)?.checked_add(u128::from(digit))
    })
}

/// Appends `length` random characters, each equally likely.
pub(crate) fn push_random(text: &mut String, length: usize, env: &Env) -> Result<()> {
    let wanted = text.len() + length;
    while text.len() < wanted {
        let random: [u8; 32] = env.random_bytes()?;
        // 248 is the largest multiple of 62 in a byte: values from it on would favour the first characters.
        let fair = random.iter().filter(|byte| **byte < 248).take(wanted - text.len());
        text.extend(fair.map(|byte| char::from(ALPHABET[usize::from(byte % 62)])));
    }
    Ok(())
}
