//! The command line.

use crate::peer::Peer;
use clap::Parser;
use std::path::PathBuf;

/// Measures starts, stops, status and memory beside the kernel's own limits.
#[derive(Debug, Parser)]
pub(crate) struct Arguments {
    /// Fewer samples: rough figures in a fraction of the time
    #[arg(long)]
    pub(crate) quick: bool,
    /// Also write the report as Markdown
    #[arg(long, value_name = "FILE")]
    pub(crate) markdown: Option<PathBuf>,
    /// Also write the report as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Only rows whose name contains this
    #[arg(long, value_name = "TEXT")]
    pub(crate) filter: Option<String>,
    /// Measure how the cost of each event grows with slots and live workers, instead of the report
    #[arg(long, conflicts_with = "filter")]
    pub(crate) scaling: bool,
    /// With --scaling: draw the costs as SVG files in this folder
    #[arg(long, value_name = "FOLDER", requires = "scaling")]
    pub(crate) plots: Option<PathBuf>,
    /// Also measure these programs; each gets a column
    #[arg(long, value_name = "PEER", value_enum, value_delimiter = ',')]
    pub(crate) against: Vec<Peer>,
}

impl Arguments {
    /// The number of samples: `full`, or a tenth with --quick.
    pub(crate) const fn samples(&self, full: usize) -> usize {
        if self.quick { full.div_ceil(10) } else { full }
    }
}
