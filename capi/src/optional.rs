//! Options that are numbers.

/// A number that may be left out.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Optional {
    /// 0: the default is taken.
    pub is_given: u32,
    /// The number.
    pub value: f32,
}

impl Optional {
    pub(crate) fn get(self) -> Option<f32> {
        (self.is_given != 0).then_some(self.value)
    }
}
