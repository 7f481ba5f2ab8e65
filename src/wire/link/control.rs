//! What servers flood: records, attachments, members.

use super::LinkError;
use super::field::{Field, Reader, choice, fields, put_number};
use crate::model::attachments::{Attachment, Change, Delta, Digest, Snapshot};
use crate::model::ids::NodeId;
use crate::model::members::{Admission, Members};
use crate::model::topology::{About, Address, LinkState, Load, Record, Scheme, Standing};

fields!(Record { server, incarnation, number, about, links });
fields!(About { address, load, standing, epoch });
fields!(Address { host, port, scheme, proxy_80_port, region });
fields!(Load { connections, max_connections, per_second });
fields!(LinkState { peer, cost });
fields!(Attachment { device, client, number });
fields!(Delta { server, incarnation, from, changes });
fields!(Snapshot { server, incarnation, number, part, parts, attachments });
fields!(Digest { server, incarnation, number });
choice!(Scheme { Plain = 0, Tls = 1 });
choice!(Standing { Returning = 0, Serving = 1, Draining = 2, Leaving = 3, Empty = 4 });

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

fields!(Admission { ordinal });

impl Field for Members {
    fn put(&self, out: &mut Vec<u8>) {
        put_number(out, self.admitted().len() as u64);
        for (server, admission) in self.admitted() {
            server.put(out);
            admission.put(out);
        }
        put_number(out, self.forgotten().len() as u64);
        for server in self.forgotten() {
            server.put(out);
        }
    }

    fn get(from: &mut Reader<'_>) -> Result<Self, LinkError> {
        let (admitted, forgotten): (Vec<(NodeId, Admission)>, Vec<NodeId>) = from.read()?;
        Ok(Self::of(admitted, forgotten))
    }
}
