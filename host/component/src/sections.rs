//! The sections of a core module: an id, a size, the contents.

/// Magic and version of a core module.
const HEADER: &[u8] = b"\0asm\x01\0\0\0";
const CUSTOM: u8 = 0;

/// One section, with the name if it is a custom one.
struct Section<'m> {
    custom: Option<&'m str>,
    /// With id and size.
    bytes: &'m [u8],
}

/// Names of the custom sections. None if this is no core module.
pub(crate) fn custom_names(module: &[u8]) -> Option<Vec<&str>> {
    Some(sections(module)?.into_iter().filter_map(|section| section.custom).collect())
}

/// The module without names and debug information. None if this is no core module.
pub(crate) fn without_debug(module: &[u8]) -> Option<Vec<u8>> {
    let kept = sections(module)?.into_iter().filter(|section| !section.custom.is_some_and(is_debug));
    Some(kept.fold(HEADER.to_vec(), |mut out, section| {
        out.extend_from_slice(section.bytes);
        out
    }))
}

fn is_debug(name: &str) -> bool {
    name == "name" || name.starts_with(".debug_") || matches!(name, "sourceMappingURL" | "external_debug_info")
}

fn sections(module: &[u8]) -> Option<Vec<Section<'_>>> {
    let mut rest = module.strip_prefix(HEADER)?;
    let mut sections = Vec::new();
    while let Some((&id, after)) = rest.split_first() {
        let (size, contents) = number(after)?;
        let end = rest.len() - contents.len() + size;
        let custom = if id == CUSTOM {
            let (length, name) = number(contents.get(..size)?)?;
            Some(std::str::from_utf8(name.get(..length)?).ok()?)
        } else {
            None
        };
        sections.push(Section { custom, bytes: rest.get(..end)? });
        rest = rest.get(end..)?;
    }
    Some(sections)
}

/// An unsigned LEB128 of 32 bits, and what follows it.
fn number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0_u32;
    for (index, byte) in bytes.iter().take(5).enumerate() {
        value |= u32::from(byte & 0x7f).checked_shl(u32::try_from(index * 7).ok()?)?;
        if byte & 0x80 == 0 {
            return Some((usize::try_from(value).ok()?, bytes.get(index + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn custom(name: &str, contents: &[u8]) -> Vec<u8> {
        let mut body = vec![u8::try_from(name.len()).unwrap()];
        body.extend_from_slice(name.as_bytes());
        body.extend_from_slice(contents);
        // A size in two bytes, as compilers write it.
        let low = u8::try_from(body.len() & 0x7f).unwrap() | 0x80;
        let high = u8::try_from(body.len() >> 7).unwrap();
        [vec![CUSTOM, low, high], body].concat()
    }

    #[test]
    fn debug_information_goes_and_the_rest_stays() {
        let types = [1, 1, 0];
        let keep = custom("component-type:x", &[7; 200]);
        let module = [HEADER, &types, &custom("name", b"abc"), &keep, &custom(".debug_info", &[1; 300])].concat();
        assert_eq!(custom_names(&module).unwrap(), ["name", "component-type:x", ".debug_info"]);
        assert_eq!(without_debug(&module).unwrap(), [HEADER, &types, &keep].concat());
    }

    #[test]
    fn a_module_that_is_cut_off_is_none() {
        let module = [HEADER, &custom("name", b"abcdef")].concat();
        assert!(custom_names(&module).is_some());
        for end in HEADER.len() + 1..module.len() {
            assert_eq!(custom_names(&module[..end]), None, "{end}");
        }
        assert_eq!(custom_names(b"\0asm\x0d\0\x01\0"), None, "a component");
        assert_eq!(custom_names(&[HEADER, &[0, 0xff, 0xff, 0xff, 0xff, 0xff]].concat()), None, "an endless number");
    }
}
