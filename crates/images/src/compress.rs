//! Compressing a layer on two threads.
//!
//! The stream is cut into pieces of one length, each a frame (zstd) or member (gzip) of its own;
//! one after the other they are a valid stream again. So the bytes do not depend on how many
//! threads there are or how they are scheduled.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::thread::JoinHandle;

use serde::{Deserialize, Serialize};

/// How much is compressed in one piece.
const PIECE: usize = 4 << 20;
/// How many pieces are compressed at the same time.
const THREADS: usize = 2;

/// How layers are compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Smaller and several times quicker; containerd 1.5, Docker 23, podman 3 and newer take it.
    #[default]
    Zstd,
    /// What everything takes.
    Gzip,
}

impl Compression {
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
            Self::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    fn compress(self, piece: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::Zstd => zstd::bulk::compress(piece, 3),
            Self::Gzip => {
                // Without a file name, and with the time 0.
                let level = flate2::Compression::new(5);
                let mut member = flate2::write::GzEncoder::new(Vec::new(), level);
                member.write_all(piece)?;
                member.finish()
            }
        }
    }
}

/// Compresses what is written into it.
pub(crate) struct Compressor<W> {
    out: W,
    compression: Compression,
    piece: Vec<u8>,
    under_way: VecDeque<JoinHandle<io::Result<Vec<u8>>>>,
}

impl<W: Write> Compressor<W> {
    pub(crate) fn new(out: W, compression: Compression) -> Self {
        Self {
            out,
            compression,
            piece: Vec::with_capacity(PIECE),
            under_way: VecDeque::new(),
        }
    }

    /// Writes what is left.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        if !self.piece.is_empty() {
            self.begin()?;
        }
        while !self.under_way.is_empty() {
            self.end_first()?;
        }
        Ok(self.out)
    }

    fn begin(&mut self) -> io::Result<()> {
        if self.under_way.len() == THREADS {
            self.end_first()?;
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        let compression = self.compression;
        let thread = std::thread::Builder::new().name("layer".to_owned());
        self.under_way
            .push_back(thread.spawn(move || compression.compress(&piece))?);
        Ok(())
    }

    fn end_first(&mut self) -> io::Result<()> {
        let Some(first) = self.under_way.pop_front() else {
            return Ok(());
        };
        let compressed = first
            .join()
            .map_err(|_| io::Error::other("compressing a layer panicked"))??;
        self.out.write_all(&compressed)
    }
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..length]);
        if self.piece.len() == PIECE {
            self.begin()?;
        }
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn bytes() -> Vec<u8> {
        (0..PIECE as u32 / 3)
            .flat_map(|n| (n / 7).to_le_bytes())
            .collect()
    }

    fn compressed(compression: Compression) -> Vec<u8> {
        let mut compressor = Compressor::new(Vec::new(), compression);
        compressor.write_all(&bytes()).unwrap();
        compressor.finish().unwrap()
    }

    #[test]
    fn pieces_together_are_the_stream_again() {
        let mut read = Vec::new();
        let zstd = compressed(Compression::Zstd);
        zstd::Decoder::new(&zstd[..])
            .unwrap()
            .read_to_end(&mut read)
            .unwrap();
        assert!(read == bytes());
        read.clear();
        flate2::read::MultiGzDecoder::new(&compressed(Compression::Gzip)[..])
            .read_to_end(&mut read)
            .unwrap();
        assert!(read == bytes());
        assert!(zstd == compressed(Compression::Zstd));
    }
}
