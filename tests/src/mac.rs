//! MAC addresses and their text.

use anyhow::{Result, anyhow};

/// As `ip` and the agent print it.
pub fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// The address in such a text.
///
/// # Errors
///
/// When it is none.
pub fn parse_mac(text: &str) -> Result<[u8; 6]> {
    let bytes = text.split(':').map(|byte| u8::from_str_radix(byte, 16));
    let bytes = bytes.collect::<Result<Vec<_>, _>>()?;
    bytes
        .try_into()
        .map_err(|_| anyhow!("not a MAC address: {text}"))
}
