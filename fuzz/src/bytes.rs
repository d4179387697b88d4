//! An input read piece by piece; zeros once it is at its end.

pub struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    /// As many as there are of so many.
    pub fn take(&mut self, bytes: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(bytes.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub fn u8(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    pub fn u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        let taken = self.take(8);
        bytes[..taken.len()].copy_from_slice(taken);
        u64::from_le_bytes(bytes)
    }

    /// Small in most cases, near one of the ends that sums run over, or any.
    pub fn number(&mut self) -> u64 {
        match self.u8() {
            0..224 => u64::from(self.u8()),
            224..232 => u64::MAX - u64::from(self.u8()),
            232..240 => (1 << 63) + u64::from(self.u8()) - 128,
            240..248 => u64::from(u32::MAX) + u64::from(self.u8()) - 128,
            _ => self.u64(),
        }
    }
}
