//! Hashes that are the same on every gateway, today and after every update.

/// Bytes of a key that count. Each rule may hash anew what a client sent, and a header may be 64 KiB.
const LONGEST_KEY: usize = 4 << 10;

/// FNV-1a over the bytes, from a seed, with its bits mixed once more: FNV alone leaves the high bits of short keys alike.
pub(crate) fn hash(seed: u64, bytes: &[u8]) -> u64 {
    let bytes = &bytes[..bytes.len().min(LONGEST_KEY)];
    let start = 0xcbf2_9ce4_8422_2325 ^ mix(seed);
    mix(bytes.iter().fold(start, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)))
}

/// The finalizer of `splitmix64`.
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Where a hash stands among `parts` equal parts.
pub(crate) fn part(hash: u64, parts: u16) -> u16 {
    let part = (u128::from(hash) * u128::from(parts)) >> 64;
    u16::try_from(part).expect("a product with a fraction of one is smaller")
}

/// How much a key belongs to a backend: the key goes where this is largest. Weighted rendezvous hashing: backends win keys in proportion to their
/// weights, and a score depends on nothing but key, backend and weight, so that no third backend can change which of two wins.
pub(crate) fn score(key: u64, backend: u64, weight: u32) -> f64 {
    // 53 bits are what a float holds; the half keeps the logarithm away from 0 and 1.
    let unit = ((mix(key ^ backend) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    -f64::from(weight) / unit.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_never_change() {
        // A change of these numbers moves every key of every user to another backend.
        assert_eq!(hash(0, b""), 0xf52a_15e9_a9b5_e89b);
        assert_eq!(hash(0, b"anna"), 0x8ed2_27c0_ee63_f504);
        assert_eq!(hash(1, b"anna"), 0xf6cd_7c6d_197e_646c);
        let score = score(hash(0, b"anna"), hash(0, b"shop/a:80"), 3);
        assert!((score - 1.1926830882292208).abs() < 1e-9, "{score}");
    }

    #[test]
    fn parts_are_equal() {
        let mut found = [0_u32; 10];
        for key in 0..100_000_u32 {
            found[usize::from(part(hash(7, key.to_string().as_bytes()), 10))] += 1;
        }
        assert!(found.iter().all(|count| (9_500..10_500).contains(count)), "{found:?}");
        assert_eq!((part(0, 10_000), part(u64::MAX, 10_000)), (0, 9_999));
    }
}
