package bus

import (
	"github.com/godbus/dbus/v5"

	"github.com/fermata-project/fermata/daemon/api"
)

// job is the interface of one job.
func (l *link) job() iface {
	return iface{
		name: api.JobInterface,
		doc: "Long work. A finished job stays for a minute, or until 64 later ones have finished. The job that takes a set, " +
			"or holds, is cancelled when its requester leaves the bus, unless the request said detach.",
		methods: []method{
			{name: "Wait", action: Read, about: aboutObject, out: "outcome error result", fn: l.waitJob,
				doc: "Returns when the job has ended, however long that takes: the outcome (\"ok\", or the class of the error), " +
					"the error's text, and the result as JSON."},
			{name: "Cancel", fn: l.cancelJob,
				doc: "Asks the job to undo what it did and end. Its requester may, and who may start such a job."},
			{name: "WaitHeld", action: Read, about: aboutObject, out: "held", fn: l.waitHeld,
				doc: "Returns true as soon as a job of kind quiesce holds, or one of kind use has mounted its set, and false when it has ended without."},
			{name: "Release", in: "done", fn: l.releaseJob,
				doc: "Ends the hold of a job of kind quiesce, or the use of a set; done says whether what it was for has been done, and the writers are told. " +
					"Its requester may, and who may start such a job. Wait says whether the hold lasted until then."},
		},
		signals: []signal{
			{name: "Finished", args: []arg{{"outcome", ""}, {"error", ""}, {"result", ""}},
				doc: "The job has ended."},
		},
		properties: jobTable,
	}
}

var jobTable = []property{
	prop("Kind", "const", "create, delete, mount, umount, resize, verify, report, pin, unpin, prune, extend-pool, measure-pool, quiesce, use or writer-test.", func(j *job) string { return j.kind }),
	prop("State", "true", "running or done.", func(j *job) string {
		if j.isDone() {
			return "done"
		}
		return "running"
	}),
	prop("Phase", "true", "The phase of the transaction that began last.", (*job).currentPhase),
	prop("Set", "false", "The set that a job of kind use has mounted.", func(j *job) string { return deref(j.set.Load()) }),
	prop("Outcome", "true", "Empty while the job runs; then ok, or the class of the error.", func(j *job) string { return j.ending().outcome }),
	prop("Error", "true", "The error's text.", func(j *job) string { return j.ending().err }),
	prop("Result", "true", "The result, as JSON.", func(j *job) string { return j.ending().result }),
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// ending is the report of a job that is done, and an empty one of one that is not.
func (j *job) ending() report {
	if j.isDone() {
		return j.report
	}
	return report{}
}

func (l *link) waitJob(c call) (outcome, errText, result string, err error) {
	j, err := l.jobs.find(c.path)
	if err != nil {
		return "", "", "", err
	}
	select {
	case <-j.done:
	case <-c.ctx.Done():
		return "", "", "", api.Errorf(api.Failed, "the connection to the bus was lost")
	}
	r := j.report
	return r.outcome, r.err, r.result, nil
}

// actionOf is what one must be allowed to, to start a job of a kind.
var actionOf = map[string]Action{"create": Create, "delete": Delete, "prune": Prune, "pin": Pin, "unpin": Pin, "mount": Mount, "umount": Mount, "resize": Resize, "extend-pool": ExtendPool, "measure-pool": ExtendPool, "verify": Verify, "report": Report, "quiesce": Quiesce, "use": Use, "writer-test": Create}

func (l *link) cancelJob(c call) error {
	j, err := l.jobs.find(c.path)
	if err != nil {
		return err
	}
	if err := l.ownsJob(c, j); err != nil {
		return err
	}
	j.cancel()
	return nil
}

// ownsJob is nil for a job's requester, and for who may start such a job.
func (l *link) ownsJob(c call, j *job) error {
	if c.sender == j.owner {
		return nil
	}
	return c.authorize(actionOf[j.kind], j.details)
}

func unknownObject(path dbus.ObjectPath) error {
	return dbus.NewError("org.freedesktop.DBus.Error.UnknownObject", []any{"there is no object " + string(path)})
}
