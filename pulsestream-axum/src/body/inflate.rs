//! Decompresses bodies, within a limit on what comes out.

use std::io::Read;

use axum::http::{HeaderMap, header};
use bytes::Bytes;
use pulsestream_core::{Error, ErrorKind};

use super::Reserved;
use crate::failure::{Answer, Failure};

/// Below this size no ratio is a bomb: text of a few kilobytes may well be a hundred times smaller when compressed.
const HARMLESS_BYTES: usize = 64 << 10;

/// The largest window of a zstd frame, as a power of two: 8 MiB, what RFC 9659 asks of content codings.
const ZSTD_WINDOW_LOG: u32 = 23;

/// How much is decompressed in one step.
const PIECE_BYTES: usize = 32 << 10;

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    Gzip,
    Deflate,
    Zstd,
}

impl Coding {
    /// Reads `Content-Encoding`; one coding, not a chain of them.
    pub(super) fn of(headers: &HeaderMap) -> Answer<Option<Self>> {
        let mut values = headers.get_all(header::CONTENT_ENCODING).iter();
        let Some(value) = values.next() else { return Ok(None) };
        let value = value.to_str().unwrap_or("?").trim().to_ascii_lowercase();
        match value.as_str() {
            _ if values.next().is_some() => Err(unsupported()),
            "" | "identity" => Ok(None),
            "gzip" | "x-gzip" => Ok(Some(Self::Gzip)),
            "deflate" => Ok(Some(Self::Deflate)),
            "zstd" => Ok(Some(Self::Zstd)),
            _ => Err(unsupported()),
        }
    }

    /// Decompresses a body to at most `limit` bytes and at most `ratio` times its size.
    pub(super) fn inflate(
        self,
        raw: &[u8],
        limit: usize,
        ratio: usize,
        reserved: &mut Reserved,
    ) -> Answer<Bytes> {
        let by_ratio = raw.len().saturating_mul(ratio).max(HARMLESS_BYTES);
        let most = by_ratio.min(limit);
        let mut inflated = Vec::with_capacity(raw.len().saturating_mul(4).min(most));
        let mut fill = |reader: &mut dyn Read| fill(reader, most, &mut inflated, reserved);
        let read = match self {
            Self::Gzip => fill(&mut flate2::bufread::MultiGzDecoder::new(raw)),
            // Some clients send a bare deflate stream where RFC 9110 asks for zlib; the first byte tells which.
            Self::Deflate if raw.first().is_some_and(|byte| byte & 0x0f == 8) => {
                fill(&mut flate2::bufread::ZlibDecoder::new(raw))
            }
            Self::Deflate => fill(&mut flate2::bufread::DeflateDecoder::new(raw)),
            Self::Zstd => match zstd_decoder(raw) {
                Ok(mut decoder) => fill(&mut decoder),
                Err(_) => Err(unreadable()),
            },
        };
        read?;
        if inflated.len() <= most {
            return Ok(inflated.into());
        }
        let error = if most == limit {
            Error::new(
                ErrorKind::TooLarge,
                "http.body",
                "the decompressed body has more bytes than max_body_bytes",
            )
            .with_context("max_body_bytes", limit)
        } else {
            Error::new(ErrorKind::TooLarge, "http.body", "the body grows too much when it is decompressed")
                .with_context("max_inflate_ratio", ratio)
        };
        Err(error.into())
    }
}

fn zstd_decoder(raw: &[u8]) -> std::io::Result<zstd::stream::read::Decoder<'static, &[u8]>> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(raw)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG)?;
    Ok(decoder)
}

/// Reads up to one byte more than allowed, so that the caller can tell, and reserves memory as it comes.
fn fill(reader: &mut dyn Read, most: usize, into: &mut Vec<u8>, reserved: &mut Reserved) -> Answer<()> {
    let mut piece = vec![0; PIECE_BYTES];
    while into.len() <= most {
        let wanted = piece.len().min(most + 1 - into.len());
        match reader.read(&mut piece[..wanted]) {
            Ok(0) => break,
            Ok(length) => {
                reserved.grow(length)?;
                into.extend_from_slice(&piece[..length]);
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return Err(unreadable()),
        }
    }
    Ok(())
}

fn unreadable() -> Failure {
    Failure::unreadable_body("the body is not what its Content-Encoding says")
}

fn unsupported() -> Failure {
    Failure::unsupported_media_type("the body may be plain or one of gzip, deflate, zstd")
}

#[cfg(test)]
mod tests {
    use super::super::BodyBudget;
    use super::*;
    use flate2::Compression;
    use std::io::Write;

    fn inflate(coding: Coding, raw: &[u8], limit: usize, ratio: usize) -> Answer<Bytes> {
        coding.inflate(raw, limit, ratio, &mut BodyBudget::new(usize::MAX).empty())
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn each_coding() {
        let text = b"{\"event_type\": \"x\"}".repeat(100);
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), Compression::fast());
        zlib.write_all(&text).unwrap();
        let mut bare = flate2::write::DeflateEncoder::new(Vec::new(), Compression::fast());
        bare.write_all(&text).unwrap();
        for (coding, raw) in [
            (Coding::Gzip, gzip(&text)),
            (Coding::Gzip, [gzip(&text[..500]), gzip(&text[500..])].concat()),
            (Coding::Deflate, zlib.finish().unwrap()),
            (Coding::Deflate, bare.finish().unwrap()),
            (Coding::Zstd, zstd::bulk::compress(&text, 3).unwrap()),
        ] {
            assert_eq!(inflate(coding, &raw, 1 << 20, 100).unwrap(), text, "{coding:?}");
            let cut = inflate(coding, &raw[..raw.len() - 6], 1 << 20, 100);
            assert_eq!(cut.unwrap_err().status().as_u16(), 400, "{coding:?} cut short");
        }
    }

    #[test]
    fn bombs_stop_at_the_limit() {
        let zeros = vec![0; 32 << 20];
        for raw in [gzip(&zeros), zstd::bulk::compress(&zeros, 19).unwrap()] {
            let coding = if raw.starts_with(&[0x1f, 0x8b]) { Coding::Gzip } else { Coding::Zstd };
            let by_ratio = inflate(coding, &raw, usize::MAX >> 1, 100).unwrap_err();
            assert_eq!(by_ratio.error().kind(), ErrorKind::TooLarge);
            assert!(by_ratio.error().context().iter().any(|(key, _)| *key == "max_inflate_ratio"));
            let by_size = inflate(coding, &raw, 1 << 10, usize::MAX).unwrap_err();
            assert!(by_size.error().context().iter().any(|(key, _)| *key == "max_body_bytes"));
        }
        let exact = gzip(&vec![0; 1_000]);
        assert!(inflate(Coding::Gzip, &exact, 1_000, 1).is_ok());
        assert!(inflate(Coding::Gzip, &exact, 999, 1).is_err());
    }

    #[test]
    fn a_window_larger_than_allowed_is_refused() {
        // A frame header that asks for a window of 128 MiB: magic, descriptor, window byte, an empty last block.
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 17 << 3, 0x01, 0x00, 0x00];
        assert_eq!(inflate(Coding::Zstd, &frame, 1 << 20, 100).unwrap_err().status().as_u16(), 400);
    }

    #[test]
    fn chains_and_unknown_codings_are_refused() {
        let of = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::CONTENT_ENCODING, value.parse().unwrap());
            }
            Coding::of(&headers).map_err(|failure| failure.status().as_u16())
        };
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&["identity"]), Ok(None));
        assert_eq!(of(&["GZIP"]), Ok(Some(Coding::Gzip)));
        for values in [&["gzip, gzip"][..], &["gzip", "gzip"], &["br"], &["nonsense"]] {
            assert_eq!(of(values), Err(415), "{values:?}");
        }
    }
}
