//! What the daemon did and does: traces of requests, profiles, activity.

use ired_proto::ired::v1::{
    GetActivityRequest, GetActivityResponse, GetTraceRequest, ListTracesRequest, ProfileModelRequest,
    ProfileModelResponse, Trace, TraceSummary,
};

use crate::{Client, ClientError};

impl Client {
    /// The newest requests that the daemon keeps, of one model or, with an empty name, of all; 0: as many as it lists.
    pub async fn traces(&self, model: &str, limit: u32) -> Result<Vec<TraceSummary>, ClientError> {
        let request = ListTracesRequest { model: model.to_owned(), limit };
        Ok(self.traces.clone().list_traces(request).await?.into_inner().traces)
    }

    /// One request that the daemon keeps, by its id or its trace's.
    pub async fn trace(&self, id: &str) -> Result<Trace, ClientError> {
        let answer = self.traces.clone().get_trace(GetTraceRequest { id: id.to_owned() }).await?.into_inner();
        answer.trace.ok_or_else(|| ClientError::protocol("an answer without a trace"))
    }

    /// Has the next executions of a model timed; answers when there were enough, or the time is over.
    pub async fn profile(&self, request: ProfileModelRequest) -> Result<ProfileModelResponse, ClientError> {
        Ok(self.traces.clone().profile_model(request).await?.into_inner())
    }

    /// Counts and sizes as they are now.
    pub async fn activity(&self) -> Result<GetActivityResponse, ClientError> {
        Ok(self.activity.clone().get_activity(GetActivityRequest {}).await?.into_inner())
    }
}
