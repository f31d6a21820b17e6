//! MQTT 5.0 properties (section 2.2.2).

/// A block of properties without its length, checked when the packet was decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Properties<'a> {
    raw: &'a [u8],
}

impl<'a> Properties<'a> {
    /// No properties.
    pub const EMPTY: Properties<'static> = Properties { raw: &[] };

    /// The bytes of the block.
    #[must_use]
    pub const fn raw(&self) -> &'a [u8] {
        self.raw
    }
}
