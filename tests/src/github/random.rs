//! Random bytes and letters, for keys, tokens and ids.
//!
//! Deliberately not here: a seed. What nobody may guess mustn't come again.

use ring::rand::{SecureRandom as _, SystemRandom};

/// Bytes that nobody guesses.
pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // ring's generator fails only where the kernel has none.
    SystemRandom::new().fill(&mut bytes).unwrap_or_else(|_| unreachable!("the system has random numbers"));
    bytes
}

/// The alphabet of GitHub's opaque tokens.
pub(super) fn alphanumeric<const N: usize>() -> String {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    random::<N>().iter().map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()])).collect()
}
