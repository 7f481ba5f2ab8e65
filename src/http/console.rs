//! The console: a page for operators, on every server. The page itself is no secret and asks for no key; all that it shows
//! comes from paths that demand an admin's, which the browser keeps for the tab and sends in the header alone.

use actix_web::web::{ServiceConfig, get};

use super::page::{CLOSED, File, HTML, SCRIPT, STYLE};
use crate::auth::key::{Claims, Role};
use crate::model::ids::{Millis, NodeId};

macro_rules! files {
    ($($path:literal $sort:ident $file:literal),+ $(,)?) => {
        [$(File { path: $path, sort: $sort, text: include_str!(concat!("../../web/console/", $file)) }),+]
    };
}

const FILES: &[File] = &files![
    "/console" HTML "index.html",
    "/console/console.css" STYLE "console.css",
    "/console/console.js" SCRIPT "console.js",
    "/console/api.js" SCRIPT "api.js",
    "/console/chart.js" SCRIPT "chart.js",
    "/console/dom.js" SCRIPT "dom.js",
    "/console/find.js" SCRIPT "find.js",
    "/console/graph.js" SCRIPT "graph.js",
    "/console/layout.js" SCRIPT "layout.js",
    "/console/mesh.js" SCRIPT "mesh.js",
    "/console/rates.js" SCRIPT "rates.js",
    "/console/server.js" SCRIPT "server.js",
    "/console/words.js" SCRIPT "words.js",
];

pub(super) fn configure(config: &mut ServiceConfig) {
    for file in FILES {
        config.route(file.path, get().to(move || async { file.answer(CLOSED) }));
    }
}

impl super::State {
    /// The console with a key at hand, for somebody who tries the server on the machine that it runs on. What stands behind
    /// the `#` stays in the browser.
    pub fn console_link(&self, expires: Millis) -> String {
        let holder: NodeId = "console".parse().expect("letters are an id");
        let key = self.keyring.mint(&Claims::new(holder, expires).with_role(Role::Admin));
        format!("{}/console#key={key}", self.url())
    }
}
