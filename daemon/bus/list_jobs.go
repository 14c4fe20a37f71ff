package bus

import (
	"cmp"
	"encoding/json"
	"fmt"

	"github.com/fermata-project/fermata/daemon/api"
)

// listJobs gives all jobs, oldest first.
func (l *link) listJobs(call) (string, error) {
	jobs := []api.Job{}
	for _, j := range l.jobs.list() {
		jobs = append(jobs, describe(j))
	}
	return toJSON(jobs)
}

// occupation is a job in a sentence.
func occupation(j api.Job) string {
	text := fmt.Sprintf("job %d runs: %s", j.Number, j.Kind)
	for _, part := range [][2]string{{"policy", j.Policy}, {"set", j.Set}, {"phase", j.Phase}} {
		if part[1] != "" {
			text += fmt.Sprintf(", %s %s", part[0], part[1])
		}
	}
	return text
}

func describe(j *job) api.Job {
	out := api.Job{
		Number: j.number, Kind: j.kind, State: "running", Phase: j.currentPhase(), Policy: j.policy,
		Set: cmp.Or(deref(j.set.Load()), j.details["set"]), Begun: j.begun.UTC().Round(0),
	}
	if j.isDone() {
		out.State, out.Phase, out.Ended = "done", "", j.ended.UTC().Round(0)
		out.Outcome, out.Error = j.report.outcome, j.report.err
		if j.report.result != "" {
			out.Result = json.RawMessage(j.report.result)
		}
	}
	return out
}
