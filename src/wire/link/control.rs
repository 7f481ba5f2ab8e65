//! What servers flood: records, attachments, members.

use super::LinkError;
use super::field::{Field, Reader, choice, fields};
use crate::model::attachments::{Attachment, Change, Delta, Digest, Snapshot};
use crate::model::members::Members;
use crate::model::topology::{About, Address, LinkState, Load, Record, Scheme, Standing};

fields!(Record { server, incarnation, number, about, links });
fields!(About { address, load, standing, epoch });
fields!(Address { host, port, scheme, proxy_80_port, region });
fields!(Load { connections, max_connections });
fields!(LinkState { peer, cost });
fields!(Attachment { device, client, number });
fields!(Delta { server, incarnation, from, changes });
fields!(Snapshot { server, incarnation, number, part, parts, attachments });
fields!(Digest { server, incarnation, number });
choice!(Scheme { Plain = 0, Tls = 1 });
choice!(Standing { Returning = 0, Serving = 1, Draining = 2 });

impl Field for Change {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Attached(attachment) => {
                out.push(0);
                attachment.put(out);
            }
            Self::Detached(device) => {
                out.push(1);
                device.put(out);
            }
        }
    }

    fn get(from: &mut Reader<'_>) -> Result<Self, LinkError> {
        match from.byte()? {
            0 => from.read().map(Self::Attached),
            1 => from.read().map(Self::Detached),
            tag => Err(LinkError::Unknown { what: "Change", tag }),
        }
    }
}

/// In the form in which they are also kept: JSON. They change when a server is admitted or forgotten, and hardly else.
impl Field for Members {
    fn put(&self, out: &mut Vec<u8>) {
        let text = serde_json::to_string(self).expect("ids and numbers are JSON, and ids are keys");
        text.put(out);
    }

    fn get(from: &mut Reader<'_>) -> Result<Self, LinkError> {
        let text: String = from.read()?;
        serde_json::from_str(&text).map_err(|_| LinkError::Members)
    }
}
