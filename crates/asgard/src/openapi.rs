//! One OpenAPI document of all crates, with what the permission table knows.

use serde_json::json;
use utoipa::OpenApi as _;
use utoipa::openapi::extensions::ExtensionsBuilder;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{OpenApi, PathItem};
use web::{Permission, Role, RouteEntry, Style};

/// The name of the way to send a key.
const SCHEME: &str = "key";

/// The document of the binary's own routes and of `others`; each operation says what it needs.
pub fn describe(others: &[OpenApi], table: &[RouteEntry]) -> OpenApi {
    let mut document = crate::http::docs::Api::openapi();
    for other in others {
        document.merge(other.clone());
    }
    let components = document.components.get_or_insert_default();
    let key = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    components.add_security_scheme(SCHEME, key);
    for entry in table.iter().filter(|entry| entry.style == Style::Asgard) {
        let item = document.paths.paths.get_mut(&path(&entry.path));
        if let Some(operation) = item.and_then(|item| operation(item, entry.method.as_str())) {
            declare(operation, entry.permission);
        }
    }
    for (path, item) in &mut document.paths.paths {
        for method in METHODS {
            if let Some(operation) = operation(item, method) {
                operation.operation_id = Some(name(method, path));
            }
        }
    }
    document
}

const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

/// A name that no other operation has: the crates name theirs after functions, `get` and `list`.
fn name(method: &str, path: &str) -> String {
    let words = path.split(|c: char| !c.is_ascii_alphanumeric());
    let words = words.filter(|word| !word.is_empty());
    // `/x/` is the page of `/x`, and another operation.
    let page = (path.len() > 1 && path.ends_with('/')).then(|| "page".to_owned());
    std::iter::once(method.to_ascii_lowercase())
        .chain(words.map(str::to_owned))
        .chain(page)
        .collect::<Vec<_>>()
        .join("_")
}

/// A route's path as OpenAPI writes it.
pub fn path(route: &str) -> String {
    route.replace("{*", "{")
}

fn operation<'i>(item: &'i mut PathItem, method: &str) -> Option<&'i mut Operation> {
    let slot = match method {
        "GET" => &mut item.get,
        "POST" => &mut item.post,
        "PUT" => &mut item.put,
        "PATCH" => &mut item.patch,
        _ => &mut item.delete,
    };
    slot.as_mut()
}

fn declare(operation: &mut Operation, permission: Permission) {
    let mut extensions = ExtensionsBuilder::new().add("x-permission", json!(permission));
    if permission != Permission::Public {
        extensions = extensions.add("x-role", json!(Role::needed_for(permission)));
        let none: [String; 0] = [];
        operation.security = Some(vec![SecurityRequirement::new(SCHEME, none)]);
    }
    operation.extensions = Some(extensions.build());
}
