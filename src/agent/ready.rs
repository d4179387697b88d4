//! Whether a node takes data: its own question for containers and scripts that have no curl.

use std::io;
use std::path::PathBuf;

use clap::Args;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::Via;
use super::client::{ClientError, Line};
use super::response;
use super::stream::Stream;
use super::target::Target;
use super::tls::{Tls, Trust, TrustError};
use crate::limits::ANSWER_TIMEOUT;

/// Asks `/readyz`, once.
#[derive(Args, Clone, Debug)]
pub struct ReadyArgs {
    /// Node to ask
    #[arg(long, env = "TIDEWALL_TO", default_value = "http://127.0.0.1:8080", value_name = "URL",
          value_parser = Target::parse)]
    pub to: Target,
    /// PEM file of certificates to trust besides the system's
    #[arg(long, env = "TIDEWALL_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
}

/// Why it is not ready, as far as is known.
#[derive(Debug, thiserror::Error)]
pub enum ReadyError {
    #[error(transparent)]
    Trust(#[from] TrustError),
    #[error("cannot ask {target}: {source}")]
    Ask { target: String, source: ClientError },
    #[error("{target} is not ready: {status} {said}")]
    NotReady {
        target: String,
        status: u16,
        said: String,
    },
    #[error("cannot start: {0}")]
    Start(#[from] io::Error),
}

impl ReadyError {
    /// 2 for what another command line would cure.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Trust(_) => 2,
            Self::Ask { .. } | Self::NotReady { .. } | Self::Start(_) => 1,
        }
    }
}

pub fn run(args: &ReadyArgs) -> Result<(), ReadyError> {
    let trust = Trust {
        ca: args.ca.as_deref(),
        text: None,
    };
    let line = Line {
        target: args.to.clone(),
        via: Via::Http1,
        token: None,
        tls: Tls::new(&args.to, trust, true)?,
    };
    let target = args.to.to_string();
    let asked = super::runtime()?.block_on(async {
        timeout(ANSWER_TIMEOUT, ask(&line))
            .await
            .unwrap_or(Err(ClientError::AnswerTimeout))
    });
    match asked {
        Ok((200, _)) => Ok(()),
        Ok((status, said)) => Err(ReadyError::NotReady {
            target,
            status,
            said,
        }),
        Err(source) => Err(ReadyError::Ask { target, source }),
    }
}

/// Status and words of the answer.
async fn ask(line: &Line) -> Result<(u16, String), ClientError> {
    let mut stream = Stream::open(line).await?;
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        line.target.path("/readyz"),
        line.target.host_field()
    );
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let (mut input, mut ended) = (Vec::new(), false);
    loop {
        if let Some(response) = response::read(&input, ended)? {
            let said = String::from_utf8_lossy(&response.body);
            return Ok((response.status, said.trim().to_owned()));
        }
        ended = stream.read_buf(&mut input).await? == 0;
    }
}
