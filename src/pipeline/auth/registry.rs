//! The configured ways to authenticate, by name.

use std::{any::Any, collections::BTreeMap, sync::Arc};

use super::{
    api_keys::ApiKeyMethod,
    basic::BasicMethod,
    external::ExternalMethod,
    failures::Failures,
    jwt::JwtMethod,
    method::{Method, Refusal, Verdict},
};
use crate::{
    config::{Auth, CredentialPlace},
    exchange::{Context, KeyState, Reason, Request},
    pipeline::Tools,
};
use http::HeaderValue;

/// The methods of one configuration. One whose own configuration did not change is the same object
/// before and after a reload: its keys and what it remembers live on.
#[derive(Default)]
pub struct Authenticators {
    methods: BTreeMap<Arc<str>, Entry>,
    failures: Option<Arc<Failures>>,
}

struct Entry {
    /// A copy of its configuration.
    made_from: Box<dyn Any + Send + Sync>,
    method: Arc<dyn Method>,
}

impl Authenticators {
    /// Builds what is new or changed and takes over the rest.
    #[must_use]
    pub fn build(config: &Auth, tools: &Tools, running: &Self) -> Self {
        let mut next = Builder {
            running,
            made: BTreeMap::new(),
        };
        next.add(&config.jwt, |jwt| {
            Arc::new(JwtMethod::from_config(jwt, tools))
        });
        next.add(&config.external, |external| {
            Arc::new(ExternalMethod::from_config(external, tools))
        });
        next.add(&config.api_keys, |keys| {
            Arc::new(ApiKeyMethod::from_config(keys, tools))
        });
        next.add(&config.basic, |basic| {
            Arc::new(BasicMethod::from_config(basic, tools))
        });
        Self {
            methods: next.made,
            failures: Failures::from_config(config, running.failures.as_ref()),
        }
    }

    /// What is counted of made-up credentials, if it is.
    #[must_use]
    pub fn failures(&self) -> Option<&Arc<Failures>> {
        self.failures.as_ref()
    }

    /// The API keys of all methods.
    #[must_use]
    pub fn keys(&self) -> Vec<KeyState> {
        let methods = self.methods.values();
        methods.flat_map(|entry| entry.method.keys()).collect()
    }

    /// A method by its full name. Names in a checked configuration resolve; one that does not lets
    /// nobody in.
    #[must_use]
    pub fn get(&self, name: &Arc<str>) -> Arc<dyn Method> {
        match self.methods.get(name) {
            Some(entry) => Arc::clone(&entry.method),
            None => Arc::new(Closed(Arc::clone(name))),
        }
    }
}

struct Builder<'a> {
    running: &'a Authenticators,
    made: BTreeMap<Arc<str>, Entry>,
}

impl Builder<'_> {
    /// Adds the methods of one kind.
    fn add<C>(&mut self, configs: &BTreeMap<Arc<str>, C>, make: impl Fn(&C) -> Arc<dyn Method>)
    where
        C: Clone + PartialEq + Send + Sync + 'static,
    {
        for (name, config) in configs {
            let unchanged = self.running.methods.get(name).filter(|entry| {
                let made_from = entry.made_from.downcast_ref::<C>();
                made_from == Some(config)
            });
            let method = match unchanged {
                Some(entry) => Arc::clone(&entry.method),
                None => make(config),
            };
            let made_from = Box::new(config.clone());
            self.made
                .insert(Arc::clone(name), Entry { made_from, method });
        }
    }
}

/// Stands in for a method that does not exist.
struct Closed(Arc<str>);

impl Method for Closed {
    fn name(&self) -> &Arc<str> {
        &self.0
    }

    fn check_beside(&self, _: &[&CredentialPlace], _: &Request, _: &Arc<Context>) -> Verdict {
        Verdict::Refused(Refusal::from(Reason::AuthUnavailable))
    }

    fn challenge(&self, _: Option<Reason>) -> Option<HeaderValue> {
        None
    }

    fn strip(&self, _: &mut Request) {}

    fn forwards_credentials(&self) -> bool {
        false
    }

    fn places(&self) -> &[CredentialPlace] {
        &[]
    }
}
