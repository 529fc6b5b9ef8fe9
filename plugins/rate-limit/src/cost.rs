//! How many units a request takes.

use penstock_plugin::Request;

/// Longer numbers are none that anybody means.
const MOST_DIGITS: usize = 20;

/// The header if it is there, else the method's, else the default.
#[derive(Debug)]
pub(crate) struct Cost {
    pub(crate) default: u32,
    /// With its place in the plan's `request_reads`.
    pub(crate) methods: Option<(usize, Vec<(String, u32)>)>,
    pub(crate) header: Option<CostHeader>,
}

/// Written by an earlier filter.
#[derive(Debug)]
pub(crate) struct CostHeader {
    /// In the plan's `request_reads`.
    pub(crate) place: usize,
    pub(crate) max: u32,
}

impl Cost {
    pub(crate) fn of(&self, request: &Request) -> u32 {
        self.by_header(request).or_else(|| self.by_method(request)).unwrap_or(self.default)
    }

    fn by_header(&self, request: &Request) -> Option<u32> {
        let header = self.header.as_ref()?;
        let value = request.read(header.place);
        let value = value.first().filter(|value| (1..=MOST_DIGITS).contains(&value.len()))?;
        let digits = std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
        // What is no `u32` although it is all digits is too large.
        Some(digits.parse().unwrap_or(u32::MAX).min(header.max))
    }

    fn by_method(&self, request: &Request) -> Option<u32> {
        let (place, methods) = self.methods.as_ref()?;
        let found = request.read(*place);
        methods.iter().find(|(method, _)| found.first() == Some(method.as_bytes())).map(|(_, cost)| *cost)
    }
}
