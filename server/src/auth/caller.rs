//! A caller, its roles, and what they permit.

use std::sync::{Arc, OnceLock};

use globset::{Glob, GlobSet, GlobSetBuilder};
use tonic::{Request, Status};

use super::needs::{Need, Permission};
use crate::error::{Error, shown};
use crate::tenants::Tenant;

/// What those who have it may do, and with which models.
#[derive(Debug)]
pub(crate) struct Role {
    see: Models,
    infer: Models,
    load: Models,
    admin: Models,
}

/// Models by patterns of their names.
#[derive(Debug)]
struct Models {
    set: GlobSet,
    all: bool,
}

impl Models {
    fn new(patterns: &[String]) -> Result<Self, globset::Error> {
        let mut builder = GlobSetBuilder::new();
        for pattern in patterns {
            builder.add(Glob::new(pattern)?);
        }
        Ok(Self { set: builder.build()?, all: patterns.iter().any(|pattern| pattern == "*") })
    }

    fn has(&self, model: Option<&str>) -> bool {
        self.all || model.is_some_and(|model| self.set.is_match(model))
    }
}

/// The patterns of a role, as its file has them.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RoleEntry {
    pub(crate) name: String,
    /// Their names, state, metadata and statistics.
    #[serde(default)]
    see: Vec<String>,
    /// And run them.
    #[serde(default)]
    infer: Vec<String>,
    /// Upload, compile, load, unload, delete and download them.
    #[serde(default)]
    load: Vec<String>,
    /// All of that; `*` is the server itself, too.
    #[serde(default)]
    admin: Vec<String>,
}

impl RoleEntry {
    pub(super) fn role(&self) -> Result<Role, globset::Error> {
        Ok(Role {
            see: Models::new(&self.see)?,
            infer: Models::new(&self.infer)?,
            load: Models::new(&self.load)?,
            admin: Models::new(&self.admin)?,
        })
    }
}

impl Role {
    /// Whether it permits this with a model, or with every one.
    fn permits(&self, permission: Permission, model: Option<&str>) -> bool {
        let granted: &[&Models] = match permission {
            Permission::See => &[&self.see, &self.infer, &self.load, &self.admin],
            Permission::Infer => &[&self.infer, &self.admin],
            Permission::Load => &[&self.load, &self.admin],
            Permission::Admin => &[&self.admin],
        };
        granted.iter().any(|models| models.has(model))
    }
}

/// Who calls. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// For the record; `None` is whoever calls where nobody has to say.
    pub(crate) name: Option<Arc<str>>,
    /// Whose its requests are; `None` where nobody is told apart.
    pub(crate) tenant: Option<Arc<Tenant>>,
    roles: Rights,
}

#[derive(Clone, Debug)]
enum Rights {
    All,
    Roles(Arc<[Arc<Role>]>),
}

impl Caller {
    /// Whoever it is, where anybody may do anything.
    pub(super) fn anybody() -> Self {
        Self { name: None, tenant: None, roles: Rights::All }
    }

    /// Whoever it is, where a call needs no rights.
    pub(super) fn nobody() -> Self {
        Self { name: None, tenant: None, roles: Rights::Roles(Arc::default()) }
    }

    pub(super) fn new(name: &str, tenant: Option<Arc<Tenant>>, roles: Vec<Arc<Role>>) -> Self {
        Self { name: Some(name.into()), tenant, roles: Rights::Roles(roles.into()) }
    }

    pub(super) fn may(&self, permission: Permission, model: Option<&str>) -> bool {
        match &self.roles {
            Rights::All => true,
            Rights::Roles(roles) => roles.iter().any(|role| role.permits(permission, model)),
        }
    }

    /// Whether a list that this caller gets may name a model.
    pub(crate) fn sees(&self, model: &str) -> bool {
        self.may(Permission::See, Some(model))
    }

    pub(super) fn shown(&self) -> &str {
        self.name.as_deref().unwrap_or("anonymous")
    }
}

/// A call that the gate let in; every request carries it to its service.
#[derive(Clone, Debug)]
pub(crate) struct Admitted {
    pub(crate) caller: Caller,
    pub(super) need: Need,
    /// Where to note the model it is about; `None` where nothing is recorded.
    model: Option<Arc<OnceLock<String>>>,
}

impl Admitted {
    pub(super) fn new(caller: Caller, need: Need, model: Option<Arc<OnceLock<String>>>) -> Self {
        Self { caller, need, model }
    }

    /// The call that a request belongs to.
    ///
    /// # Errors
    /// A request that passed no gate, which is our own mistake.
    pub(crate) fn of<T>(request: &Request<T>) -> Result<&Self, Status> {
        request.extensions().get().ok_or_else(|| Status::internal("the call passed no gate"))
    }

    /// Whose the call is, where tenants are told apart.
    pub(crate) fn tenant(&self) -> Option<Arc<Tenant>> {
        self.caller.tenant.clone()
    }

    /// Whether the call may be about this model.
    ///
    /// # Errors
    /// [`Error::Forbidden`], in the same words whether there is such a model or not.
    pub(crate) fn for_model(&self, model: &str) -> Result<(), Error> {
        if let Some(noted) = &self.model {
            noted.get_or_init(|| model.chars().take(200).collect());
        }
        match self.need {
            Need::Model(permission) => self.demand(permission, Some(model)),
            // Of one model this is a look at it.
            Need::Listing => self.demand(Permission::See, Some(model)),
            Need::Server(permission) => self.demand(permission, None),
            Need::Nothing | Need::Open(_) | Need::Known => Ok(()),
        }
    }

    /// Whether the call may be made at all, as far as that can be said without knowing its model.
    pub(super) fn for_server(&self) -> Result<(), Error> {
        match self.need {
            Need::Server(permission) => self.demand(permission, None),
            Need::Nothing | Need::Open(_) | Need::Known | Need::Listing | Need::Model(_) => Ok(()),
        }
    }

    fn demand(&self, permission: Permission, model: Option<&str>) -> Result<(), Error> {
        if self.caller.may(permission, model) {
            return Ok(());
        }
        let caller = self.caller.shown().to_owned();
        let what = match model {
            Some(model) => format!("model `{}`", shown(model)),
            None => "all models (`*`)".to_owned(),
        };
        Err(Error::Forbidden { caller, permission: permission.word(), what })
    }
}
