//! `WORKDIR`.

use dockerfile_parser::{Diagnostic, Workdir};
use ebiko_oci::ConfigEdit;

use super::StageContext;
use super::config::Lowered;
use super::stage::StageState;
use crate::Habit;
use crate::actions::{Action, WorkDirAction};

impl StageContext<'_> {
    pub(super) fn work_dir(
        &self,
        state: &StageState,
        workdir: &Workdir,
    ) -> Result<Lowered, Diagnostic> {
        let path = state.expand(self.expander(), &workdir.path)?;
        let config = &state.config.config;
        let system = state.system();
        let path = system
            .work_dir(&config.working_dir, &path)
            .map_err(|message| Diagnostic::error(workdir.path.span, message))?;
        let is_root = path == "/";
        let action = WorkDirAction {
            path: path.clone(),
            user: config.user.clone(),
            root_parents: self.has(Habit::ParentsForRoot),
        };
        Ok(Lowered {
            created_by: Some(format!("WORKDIR {path}")),
            empty_layer: is_root,
            edit: Some(ConfigEdit::WorkingDir(system.in_config(&path))),
            action: (!is_root).then_some(Action::WorkDir(action)),
        })
    }
}
