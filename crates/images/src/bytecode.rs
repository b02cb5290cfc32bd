//! Python's bytecode as it lies in an image: without the time of its source, and with the name
//! that its source has there. Else a layer would depend on when and where its files were compiled.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// What precedes the code: a magic number, flags, and what tells that the source has changed.
const HEADER: usize = 16;
/// The longest text whose length takes one byte.
const SHORT: usize = 255;
/// Added to the type of an object that is referred to again.
const REFERRED: u8 = 0x80;

pub(crate) fn is_bytecode(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "pyc")
}

/// The source of `…/__pycache__/NAME.cpython-311.pyc`: `…/NAME.py`.
pub(crate) fn source_of(path: &Path) -> Option<PathBuf> {
    let cache = path.parent()?;
    let module = path.file_name()?.to_str()?.split('.').next()?;
    let is_cached = cache.file_name() == Some(OsStr::new("__pycache__"));
    is_cached.then(|| cache.with_file_name(format!("{module}.py")))
}

/// Makes bytecode that is checked by its source's time and size into such as is taken unchecked
/// (PEP 552): in an image each source has the time 0, and Python would compile it anew.
pub(crate) fn without_time(mut bytecode: Vec<u8>) -> Vec<u8> {
    const UNCHECKED_HASH: [u8; 12] = [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    // The flags are 0 where time and size follow them.
    if bytecode.get(4..8) == Some(&[0; 4]) && bytecode.len() > HEADER {
        bytecode[4..HEADER].copy_from_slice(&UNCHECKED_HASH);
    }
    bytecode
}

/// Gives the code's source another folder: a text of the code that is an absolute path and ends
/// with `inside` becomes `folder/inside`.
pub(crate) fn moved(bytecode: Vec<u8>, inside: &Path, folder: &Path) -> Vec<u8> {
    let ending = [b"/", inside.as_os_str().as_bytes()].concat();
    let place = folder.join(inside);
    let place = text(place.as_os_str().as_bytes());
    let (mut out, mut done) = (Vec::with_capacity(bytecode.len()), 0);
    for found in memchr::memmem::find_iter(&bytecode, &ending) {
        let end = found + ending.len();
        if let Some(start) = start_of(&bytecode, done.max(HEADER), found, end) {
            out.extend_from_slice(&bytecode[done..start]);
            out.push(place[0] | (bytecode[start] & REFERRED));
            out.extend_from_slice(&place[1..]);
            done = end;
        }
    }
    out.extend_from_slice(&bytecode[done..]);
    out
}

/// Where the object begins whose text ends at `end`, as `marshal` writes it: a type, a length,
/// and an absolute path.
fn start_of(bytes: &[u8], first: usize, found: usize, end: usize) -> Option<usize> {
    let slashes = (first..=found).rev().filter(|at| bytes[*at] == b'/');
    slashes.take_while(|at| end - at < 4096).find_map(|at| {
        let length = end - at;
        let kind = |back: usize| at.checked_sub(back).filter(|start| *start >= first);
        if length <= SHORT
            && let Some(start) = kind(2)
            && usize::from(bytes[start + 1]) == length
            && matches!(bytes[start] & !REFERRED, b'z' | b'Z')
        {
            return Some(start);
        }
        let start = kind(5)?;
        let written = u32::from_le_bytes(bytes[start + 1..at].try_into().ok()?);
        let is_text = matches!(bytes[start] & !REFERRED, b'a' | b'A' | b'u' | b't');
        (is_text && written as usize == length).then_some(start)
    })
}

/// An interned text as `marshal` writes it.
fn text(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let head = match u8::try_from(bytes.len()) {
        Ok(length) if bytes.is_ascii() => vec![b'Z', length],
        _ if bytes.is_ascii() => [&b"A"[..], &length.to_le_bytes()].concat(),
        _ => [&b"t"[..], &length.to_le_bytes()].concat(),
    };
    [&head[..], bytes].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytecode_no_longer_asks_for_the_time_of_its_source() {
        let timed = [b"MAGI", &[0; 4][..], b"timesize", b"code"].concat();
        let unchecked = [b"MAGI", &[1, 0, 0, 0][..], &[0; 8], b"code"].concat();
        assert_eq!(without_time(timed), unchecked);
        assert_eq!(without_time(unchecked.clone()), unchecked);
        assert_eq!(without_time(b"short".to_vec()), b"short");
    }

    #[test]
    fn the_source_of_bytecode_is_named_as_in_the_image() {
        let inside = Path::new("lib/p/a.py");
        let bytecode = |kind: u8, name: &str| {
            let mut object = text(name.as_bytes());
            object[0] |= kind;
            [&[0; HEADER][..], b"code / and ", &object, b"more"].concat()
        };
        let wanted = bytecode(REFERRED, "/asgard/e/lib/p/a.py");
        let long = format!("/{}/lib/p/a.py", "x".repeat(300));
        for place in ["/tmp/.building-1/lib/p/a.py", "/lib/p/a.py", &long] {
            let moved = moved(bytecode(REFERRED, place), inside, Path::new("/asgard/e"));
            assert!(moved == wanted, "{place}");
        }
        for other in ["/tmp/e/lib/p/b.py", "lib/p/a.py"] {
            let kept = bytecode(0, other);
            assert!(moved(kept.clone(), inside, Path::new("/asgard/e")) == kept);
        }
    }

    #[test]
    fn bytecode_lies_beside_its_source() {
        let source = source_of(Path::new("lib/a/__pycache__/b.cpython-311.pyc"));
        assert_eq!(source.unwrap(), Path::new("lib/a/b.py"));
        assert_eq!(source_of(Path::new("lib/a/b.pyc")), None);
    }
}
