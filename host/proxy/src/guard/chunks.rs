//! Follows a chunked body through its chunks and trailers (RFC 9112 §7.1). Data is skipped, not looked at.
//!
//! Stricter than the RFC in one point: chunk extensions are refused. Nobody sends them but those who look for parsers that disagree
//! about where an extension ends.

use super::Violation;

/// Where in a chunked body the last byte was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChunkScan {
    /// In the digits of a size.
    Size { size: u64, digits: u8 },
    /// After the CR of a size.
    SizeEnd { size: u64 },
    /// In data; so much is left.
    Data { left: u64 },
    /// After the data: CR.
    DataEnd,
    /// After the CR that follows the data.
    DataEndLf,
    /// At the start of a trailer line, or of the empty line that ends the body.
    TrailerStart { size: usize },
    /// In a trailer line, before or after its colon.
    Trailer { size: usize, named: bool },
    /// After the CR of a trailer line.
    TrailerEnd { size: usize },
    /// After the CR of the last line.
    End,
}

/// What became of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chunks {
    /// All of them belong to the body, and it goes on.
    More,
    /// The body ended after so many bytes.
    Ended(usize),
    /// After so many bytes there is one that cannot be.
    Violated(usize, Violation),
}

impl ChunkScan {
    pub(crate) const START: Self = Self::Size { size: 0, digits: 0 };

    /// Follow these bytes. `limit` bounds the size of the trailers.
    pub(crate) fn scan(&mut self, bytes: &[u8], limit: usize) -> Chunks {
        let mut at = 0;
        while at < bytes.len() {
            if let Self::Data { left } = self {
                let skipped = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len() - at);
                at += skipped;
                *left -= skipped as u64;
                if *left == 0 {
                    *self = Self::DataEnd;
                }
                continue;
            }
            match self.step(bytes[at], limit) {
                Ok(Some(next)) => *self = next,
                Ok(None) => return Chunks::Ended(at + 1),
                Err(violation) => return Chunks::Violated(at, violation),
            }
            at += 1;
        }
        Chunks::More
    }

    /// The state after one byte of framing; none after the last.
    fn step(self, byte: u8, limit: usize) -> Result<Option<Self>, Violation> {
        Ok(Some(match (self, byte) {
            (Self::Size { size, digits }, _) if byte.is_ascii_hexdigit() => {
                // 15 digits cannot overflow.
                if digits == 15 {
                    return Err(Violation::ChunkSize);
                }
                let digit = (byte as char).to_digit(16).map_or(0, u64::from);
                Self::Size { size: size * 16 + digit, digits: digits + 1 }
            }
            (Self::Size { size, digits: 1.. }, b'\r') => Self::SizeEnd { size },
            (Self::Size { digits: 1.., .. }, b';') => return Err(Violation::ChunkExtension),
            (Self::Size { digits: 1.., .. }, b'\n') => return Err(Violation::BareLineFeed),
            (Self::SizeEnd { size: 0 }, b'\n') => Self::TrailerStart { size: 0 },
            (Self::SizeEnd { size }, b'\n') => Self::Data { left: size },
            (Self::DataEnd, b'\r') => Self::DataEndLf,
            (Self::DataEndLf, b'\n') => Self::START,
            (Self::Size { .. } | Self::DataEnd | Self::DataEndLf, _) => return Err(Violation::ChunkSize),
            (Self::TrailerStart { .. }, b'\r') => Self::End,
            (Self::End, b'\n') => return Ok(None),
            (Self::TrailerEnd { size }, b'\n') => Self::TrailerStart { size },
            (Self::SizeEnd { .. } | Self::TrailerEnd { .. } | Self::End, _) => {
                return Err(Violation::BareCarriageReturn);
            }
            (Self::TrailerStart { size }, _) => trailer(size, false, byte, limit)?,
            (Self::Trailer { size, named: true }, b'\r') => Self::TrailerEnd { size },
            (Self::Trailer { size, named }, _) => trailer(size, named, byte, limit)?,
            (Self::Data { .. }, _) => self,
        }))
    }
}

fn trailer(size: usize, named: bool, byte: u8, limit: usize) -> Result<ChunkScan, Violation> {
    let size = size + 1;
    match byte {
        _ if size > limit => Err(Violation::HeadTooLarge),
        b'\n' => Err(Violation::BareLineFeed),
        b':' => Ok(ChunkScan::Trailer { size, named: true }),
        // Also an obsolete fold, which begins with one of them.
        b' ' | b'\t' if !named => Err(Violation::SpaceBeforeColon),
        b'\t' | b' '..=b'~' | 0x80.. => Ok(ChunkScan::Trailer { size, named }),
        _ => Err(Violation::HeaderValue),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The outcome must not depend on how the bytes are cut.
    #[track_caller]
    fn check(body: &str, expected: Chunks) {
        let mut scan = ChunkScan::START;
        assert_eq!(scan.scan(body.as_bytes(), 100), expected, "{body:?} at once");
        let mut scan = ChunkScan::START;
        let stepwise = body.bytes().enumerate().find_map(|(at, byte)| match scan.scan(&[byte], 100) {
            Chunks::More => None,
            Chunks::Ended(end) => Some(Chunks::Ended(at + end)),
            Chunks::Violated(before, violation) => Some(Chunks::Violated(at + before, violation)),
        });
        assert_eq!(stepwise.unwrap_or(Chunks::More), expected, "{body:?} byte by byte");
    }

    #[test]
    fn bodies() {
        check("0\r\n\r\n", Chunks::Ended(5));
        check("0\r\n\r\nGET", Chunks::Ended(5));
        check("5\r\nhello\r\n0\r\n\r\n", Chunks::Ended(15));
        check("00a\r\n0123456789\r\n", Chunks::More);
        check("F\r\n0123\r\n;\n", Chunks::More);
        check("0\r\nx-sum: 1\r\ny:\r\n\r\n", Chunks::Ended(19));
    }

    #[test]
    fn violations() {
        check("5;a=b\r\nhello", Chunks::Violated(1, Violation::ChunkExtension));
        check("5\nhello", Chunks::Violated(1, Violation::BareLineFeed));
        check("5\rhello", Chunks::Violated(2, Violation::BareCarriageReturn));
        check(" 5\r\n", Chunks::Violated(0, Violation::ChunkSize));
        check("5 \r\n", Chunks::Violated(1, Violation::ChunkSize));
        check("0x5\r\n", Chunks::Violated(1, Violation::ChunkSize));
        check("-5\r\n", Chunks::Violated(0, Violation::ChunkSize));
        check("\r\n", Chunks::Violated(0, Violation::ChunkSize));
        check("1000000000000000\r\n", Chunks::Violated(15, Violation::ChunkSize));
        check("1\r\nab", Chunks::Violated(4, Violation::ChunkSize));
        check("1\r\na\n", Chunks::Violated(4, Violation::ChunkSize));
        check("0\r\n\n", Chunks::Violated(3, Violation::BareLineFeed));
        check("0\r\nx: 1\n", Chunks::Violated(7, Violation::BareLineFeed));
        check("0\r\nx : 1\r\n", Chunks::Violated(4, Violation::SpaceBeforeColon));
        check("0\r\nx: 1\r\n y\r\n", Chunks::Violated(9, Violation::SpaceBeforeColon));
        check("0\r\nx\r\n\r\n", Chunks::Violated(4, Violation::HeaderValue));
        check("0\r\nx: \0\r\n", Chunks::Violated(6, Violation::HeaderValue));
        check(&format!("0\r\nx: {}", "y".repeat(200)), Chunks::Violated(103, Violation::HeadTooLarge));
    }
}
