//! The outbound guard: where notifications may go.
//!
//! A tenant writes the URL, our network sends the request: without a guard that is a way into private networks (server-side
//! request forgery, OWASP ASVS 5 1.3.6). The guard reads the URL once as browsers do (WHATWG), resolves its name, and refuses unless
//! every address of the answer is public or opened by an operator. The connection then goes to the checked addresses only, so a
//! name that changes its mind (DNS rebinding) gains nothing.

mod address;
mod guard;
mod policy;
mod resolve;

pub use address::{AddressClass, classify};
pub use guard::EgressGuard;
pub use policy::{Cidr, EgressPolicy};
pub(crate) use resolve::look_up;
pub use resolve::{CheckedTarget, Resolve, SystemResolver, check_url};
