//! Code generated from `wit/`. Plugins never name it; [`crate::export`] and the capability modules wrap it.
//!
//! A plugin exports `lifecycle` and one of the three hook interfaces. The worlds of the contract would generate `lifecycle` three times,
//! with macros of the same name, so each interface is generated once, from a world of its own; `wit-component` joins the two that a
//! plugin uses. Types and imports are those of `lifecycle`, the others point there.

#![allow(
    unsafe_code,
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::needless_pass_by_value,
    clippy::too_many_lines,
    clippy::semicolon_if_nothing_returned,
    clippy::cast_possible_truncation,
    reason = "generated"
)]

pub mod lifecycle {
    wit_bindgen::generate!({
        inline: "package penstock:sdk; world lifecycle-part { include penstock:plugin/capabilities@0.1.0; export penstock:plugin/lifecycle@0.1.0; }",
        path: "../wit",
        pub_export_macro: true,
        export_macro_name: "export_lifecycle",
        default_bindings_module: "penstock_plugin::bindings::lifecycle",
        additional_derives: [PartialEq],
        generate_unused_types: true,
        generate_all,
    });
}

pub mod header_policy {
    wit_bindgen::generate!({
        inline: "package penstock:sdk; world header-policy-part { export penstock:plugin/header-policy@0.1.0; }",
        path: "../wit",
        pub_export_macro: true,
        export_macro_name: "export_header_policy",
        default_bindings_module: "penstock_plugin::bindings::header_policy",
        additional_derives: [PartialEq],
        with: {
            "penstock:plugin/types@0.1.0": crate::bindings::lifecycle::penstock::plugin::types,
            "penstock:plugin/header-policy@0.1.0": generate,
        },
    });
}

pub mod exchange_policy {
    wit_bindgen::generate!({
        inline: "package penstock:sdk; world exchange-policy-part { export penstock:plugin/exchange-policy@0.1.0; }",
        path: "../wit",
        pub_export_macro: true,
        export_macro_name: "export_exchange_policy",
        default_bindings_module: "penstock_plugin::bindings::exchange_policy",
        additional_derives: [PartialEq],
        with: {
            "penstock:plugin/types@0.1.0": crate::bindings::lifecycle::penstock::plugin::types,
            "penstock:plugin/exchange-policy@0.1.0": generate,
        },
    });
}

pub mod route_policy {
    wit_bindgen::generate!({
        inline: "package penstock:sdk; world route-policy-part { export penstock:plugin/route-policy@0.1.0; }",
        path: "../wit",
        pub_export_macro: true,
        export_macro_name: "export_route_policy",
        default_bindings_module: "penstock_plugin::bindings::route_policy",
        additional_derives: [PartialEq],
        with: {
            "penstock:plugin/types@0.1.0": crate::bindings::lifecycle::penstock::plugin::types,
            "penstock:plugin/route-policy@0.1.0": generate,
        },
    });
}

pub use exchange_policy::exports::penstock::plugin::exchange_policy as exchange;
pub use header_policy::exports::penstock::plugin::header_policy as header;
pub use lifecycle::{exports::penstock::plugin::lifecycle as life, penstock::plugin as imports};
pub use route_policy::exports::penstock::plugin::route_policy as routing;
