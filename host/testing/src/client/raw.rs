//! Bytes as they are, for what no HTTP library would send.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{ClientError, connect, within};

/// A TCP connection.
#[derive(Debug)]
pub struct Raw {
    stream: TcpStream,
    // Received, but not yet given out.
    received: Vec<u8>,
}

impl Raw {
    /// Connect.
    ///
    /// # Errors
    /// When nobody listens.
    pub async fn connect(address: SocketAddr) -> Result<Self, ClientError> {
        Ok(Self { stream: connect(address).await?, received: Vec::new() })
    }

    /// Connect, send these bytes, and return everything up to the peer's end of the connection.
    ///
    /// # Errors
    /// When nobody listens, or the peer keeps the connection open.
    pub async fn exchange(address: SocketAddr, bytes: impl AsRef<[u8]>) -> Result<String, ClientError> {
        let mut raw = Self::connect(address).await?;
        raw.write(bytes).await?;
        raw.read_to_end().await
    }

    /// Send bytes.
    ///
    /// # Errors
    /// When the peer has closed the connection.
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) -> Result<(), ClientError> {
        Ok(within("room to write", self.stream.write_all(bytes.as_ref())).await??)
    }

    /// Send no more (FIN), but go on reading.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn shutdown(&mut self) -> Result<(), ClientError> {
        Ok(self.stream.shutdown().await?)
    }

    /// Everything up to and including the first occurrence of `mark`; later bytes are kept for the next read.
    ///
    /// # Errors
    /// When the connection ends before it.
    pub async fn read_until(&mut self, mark: &str) -> Result<String, ClientError> {
        loop {
            if let Some(start) = self.received.windows(mark.len()).position(|window| window == mark.as_bytes()) {
                let taken: Vec<u8> = self.received.drain(..start + mark.len()).collect();
                return Ok(String::from_utf8_lossy(&taken).into_owned());
            }
            if self.receive().await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }

    /// One response with `content-length` (or none and no body): its head and body as text.
    ///
    /// # Errors
    /// When the connection ends before the response does.
    pub async fn read_response(&mut self) -> Result<String, ClientError> {
        let mut response = self.read_until("\r\n\r\n").await?;
        let length = response.to_ascii_lowercase().split("\r\ncontent-length:").nth(1).map_or(0, |rest| {
            rest.lines().next().and_then(|value| value.trim().parse::<usize>().ok()).unwrap_or_default()
        });
        while self.received.len() < length {
            if self.receive().await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
        let body: Vec<u8> = self.received.drain(..length).collect();
        response.push_str(&String::from_utf8_lossy(&body));
        Ok(response)
    }

    /// Everything up to the peer's end of the connection. A reset counts as an end.
    ///
    /// # Errors
    /// When the peer keeps the connection open.
    pub async fn read_to_end(&mut self) -> Result<String, ClientError> {
        while self.receive().await? > 0 {}
        Ok(String::from_utf8_lossy(&std::mem::take(&mut self.received)).into_owned())
    }

    async fn receive(&mut self) -> Result<usize, ClientError> {
        match within("bytes", self.stream.read_buf(&mut self.received)).await? {
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(0),
            outcome => Ok(outcome?),
        }
    }
}
