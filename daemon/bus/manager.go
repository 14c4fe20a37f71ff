package bus

import (
	"context"
	"encoding/json"
	"os/user"
	"strconv"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/fermata-project/fermata/daemon/api"
)

const (
	managerPath = dbus.ObjectPath(api.ManagerPath)
	setRoot     = managerPath + "/set"
	jobRoot     = managerPath + "/job"
)

// objects is the whole tree.
func (l *link) objects() []object {
	return []object{
		{path: managerPath, ifaces: []iface{l.manager(), l.objectManager(), l.propertiesOf(l.managerProperties)}},
		{path: setRoot, subtree: true, ifaces: []iface{l.set(), l.propertiesOf(l.setProperties)}},
		{path: jobRoot, subtree: true, ifaces: []iface{l.job(), l.propertiesOf(l.jobProperties)}},
	}
}

// manager is the interface of the daemon itself.
func (l *link) manager() iface {
	return iface{
		name: api.ManagerInterface,
		doc:  "Takes snapshot sets and keeps the inventories.",
		methods: []method{
			{name: "CreateSet", action: Create, about: aboutRequest, in: "options", out: "job", fn: l.createSet,
				doc: "Takes a snapshot set, or plans it (dry_run). The options are the fields of a request by their JSON names: " +
					"policy s, volumes as, writers as, provider s, providers a{ss} (volume to provider), consistency s, fail_if_busy b, dry_run b, retry u, " +
					"retry_wait_ns t (nanoseconds), labels a{ss}, method s (copy-on-write, clone), clone_directory s, clone_rate_bytes t (a second), clone_keep b, clone_no_wait b; and detach b: go on when the requester leaves the bus. " +
					"The job's result is the manifest."},
			{name: "Quiesce", action: Quiesce, about: aboutRequest, in: "options", out: "job", fn: l.quiesce,
				doc: "Holds writers and filesystems without a snapshot, until the job's method Release is called, and for_ns at most. " +
					"Options: policy s, volumes as, writers as, writers_only b, for_ns t (nanoseconds, at most a minute), consistency s, fail_if_busy b, " +
					"detach b. The job's result is a manifest in state released."},
			{name: "UseSet", action: Use, about: aboutRequest, in: "options", out: "job", fn: l.useSet,
				doc: "Takes a set, or finds one (set s), mounts it (target s, writable b), and waits for the job's method Release; then reports to the " +
					"writers how it went, unmounts the set, and deletes it, unless it was there before or keep b says otherwise; also when the requester " +
					"leaves the bus. The other options are those of CreateSet. The job's result is the manifest."},
			{name: "DeleteSet", action: Delete, about: aboutSet, in: "id", out: "job", fn: l.deleteSet,
				doc: "Deletes a set. A set is named by its id, a prefix of one id only, \"latest\" or \"latest:POLICY\"."},
			{name: "MountSet", action: Mount, about: aboutSet, in: "id options", out: "job", fn: l.mountSet,
				doc: "Mounts a set. Options: writable b, target s. The job's result is the array of mounts."},
			{name: "UmountSet", action: Mount, about: aboutSet, in: "id", out: "job", fn: l.umountSet,
				doc: "Unmounts a set."},
			{name: "ResizeSet", action: Resize, about: aboutSet, in: "id options", out: "job", fn: l.resizeSet,
				doc: "Grows the copy-on-write areas of a set's snapshots. Options: volume s, size_bytes t, grow b (size_bytes is added). " +
					"The job's result is the array of the volumes meant."},
			{name: "VerifySet", action: Verify, about: aboutSet, in: "id", out: "job", fn: l.verifySet,
				doc: "Looks whether a set can be used, on throw-away copies of its snapshots. The job's result is the verification: " +
					"ok says whether it can."},
			{name: "ReportSet", action: Report, about: aboutSet, in: "id options", out: "job", fn: l.reportSet,
				doc: "Says how the backup went that was made of a set, and tells the set's writers. Options: outcome s (ok, failed), " +
					"force b (once more). The job's result is the report."},
			{name: "PinSet", action: Pin, about: aboutSet, in: "id", out: "job", fn: l.pinSet,
				doc: "Keeps a set, whatever the retention of its policy says and however full its pool is."},
			{name: "UnpinSet", action: Pin, about: aboutSet, in: "id", out: "job", fn: l.unpinSet,
				doc: "Lets a set go that was pinned."},
			{name: "PrunePolicy", action: Prune, about: aboutPolicy, in: "policy", out: "job", fn: l.prunePolicy,
				doc: "Deletes the sets of a policy that its retention does not keep. The job's result is the array of verdicts, one for each set."},
			{name: "PlanPrune", action: Read, about: aboutPolicy, in: "policy", out: "json", fn: l.planPrune,
				doc: "The verdicts that PrunePolicy would come to now, newest set first."},
			{name: "ListPolicies", action: Read, out: "json", fn: l.listPolicies,
				doc: "The policies, with how many sets each has."},
			{name: "ListJobs", action: Read, out: "json", fn: l.listJobs,
				doc: "The jobs that are running, and those that have ended a moment ago, oldest first."},
			{name: "GetSet", action: Read, about: aboutSet, in: "id", out: "json", fn: l.getSet,
				doc: "The manifest of a set."},
			{name: "ListSets", action: Read, out: "json", fn: l.listSets,
				doc: "The manifests of all sets, newest last."},
			{name: "ListWriters", action: Read, out: "json", fn: l.listWriters,
				doc: "The declared writers."},
			{name: "TestWriter", action: Create, about: aboutWriter, in: "writer options", out: "job", fn: l.testWriter,
				doc: "Takes a writer through all phases, without a snapshot. Options: policy s (whose volumes it is told of), fail_if_busy b, detach b. " +
					"The job's result says how long each phase took, and what a set would have been told; it is cancelled when its requester leaves the bus."},
			{name: "RegisterWriter", in: "name object options", fn: l.registerWriter,
				doc: "Makes the caller a writer, which exports org.fermata.Fermata1.Writer at the object, until it leaves the bus. Options: level s, report b (it has the method Report), " +
					"timeouts_ms a{st} (by phase), components aa{sv} (name s, paths as, excludes as, log_files as, restore_method s). " +
					"The user that the writer's declaration names may do so, and who is allowed the action register-writer."},
			{name: "UnregisterWriter", in: "name", fn: l.unregisterWriter,
				doc: "Ends a registration of the caller. A hold is broken by it."},
			{name: "ListProviders", action: Read, out: "json", fn: l.listProviders,
				doc: "The providers of this host."},
			{name: "ListPools", action: Read, out: "json", fn: l.listPools,
				doc: "The pools, with what they hold."},
			{name: "ShowPool", action: Read, in: "name", out: "json", fn: l.showPool,
				doc: "One pool, with what was done about it of late and the snapshots that live in it."},
			{name: "MeasurePool", action: ExtendPool, in: "name", out: "job", fn: l.measurePool,
				doc: "Reads the pool's metadata for what each snapshot has in it, and has alone. The job's result is that of ShowPool."},
			{name: "ExtendPool", action: ExtendPool, in: "name options", out: "job", fn: l.extendPool,
				doc: "Extends a thin pool from its volume group. Options: size_bytes t (to be added), or percent d (of what there is); metadata b. " +
					"The job's result is the pool."},
			{name: "ListVolumes", action: Read, out: "json", fn: l.listVolumes,
				doc: "The volumes that could be in a set, and why others could not."},
			{name: "Reload", action: Configure, fn: l.reload,
				doc: "Has the daemon read its configuration anew, as a whole: if anything is wrong with it, the old one stays, and the error says what. " +
					"Waits for the jobs that run, a minute at most. The name leaves the bus for a moment, and services that are writers register anew."},
			{name: "Status", action: Read, out: "json", fn: l.status,
				doc: "The daemon's state at a glance."},
		},
		signals: []signal{poolSignal},
		properties: []property{
			prop("Version", "const", "The daemon's version.", func(s api.Service) string { return s.Status().Version }),
		},
	}
}

func (l *link) createSet(c call, o map[string]dbus.Variant) (dbus.ObjectPath, error) {
	request, detach, err := decodeRequest(o)
	if err != nil {
		return "/", err
	}
	c.policy = request.Policy
	j, err := l.jobs.start("create", c, func(ctx context.Context, j *job) (any, error) {
		return l.svc.CreateSet(ctx, request, j.setPhase)
	})
	if err == nil && !detach {
		l.follow(j)
	}
	return pathOf(j, err)
}

func (l *link) deleteSet(c call, ref string) (dbus.ObjectPath, error) {
	m, err := resolve(l.svc.Sets(), ref)
	if err != nil {
		return "/", err
	}
	return pathOf(l.jobs.start("delete", c, func(ctx context.Context, _ *job) (any, error) {
		return nil, l.svc.DeleteSet(ctx, m.ID)
	}))
}

func (l *link) mountSet(c call, ref string, o map[string]dbus.Variant) (dbus.ObjectPath, error) {
	options, err := decodeMountOptions(o)
	if err != nil {
		return "/", err
	}
	m, err := resolve(l.svc.Sets(), ref)
	if err != nil {
		return "/", err
	}
	return pathOf(l.jobs.start("mount", c, func(ctx context.Context, _ *job) (any, error) {
		return l.svc.MountSet(ctx, m.ID, options)
	}))
}

func (l *link) umountSet(c call, ref string) (dbus.ObjectPath, error) {
	m, err := resolve(l.svc.Sets(), ref)
	if err != nil {
		return "/", err
	}
	return pathOf(l.jobs.start("umount", c, func(ctx context.Context, _ *job) (any, error) {
		return nil, l.svc.UmountSet(ctx, m.ID)
	}))
}

func (l *link) resizeSet(c call, ref string, o map[string]dbus.Variant) (dbus.ObjectPath, error) {
	options, err := decodeResizeOptions(o)
	if err != nil {
		return "/", err
	}
	m, err := resolve(l.svc.Sets(), ref)
	if err != nil {
		return "/", err
	}
	return pathOf(l.jobs.start("resize", c, func(ctx context.Context, _ *job) (any, error) {
		return l.svc.ResizeSet(ctx, m.ID, options)
	}))
}

func (l *link) verifySet(c call, ref string) (dbus.ObjectPath, error) {
	m, err := resolve(l.svc.Sets(), ref)
	if err != nil {
		return "/", err
	}
	return pathOf(l.jobs.start("verify", c, func(ctx context.Context, j *job) (any, error) {
		return l.svc.VerifySet(ctx, m.ID, j.setPhase)
	}))
}

func (l *link) reportSet(c call, ref string, o map[string]dbus.Variant) (dbus.ObjectPath, error) {
	options, err := decodeReportOptions(o)
	if err != nil {
		return "/", err
	}
	m, err := resolve(l.svc.Sets(), ref)
	if err != nil {
		return "/", err
	}
	options.By = l.userOf(c)
	return pathOf(l.jobs.start("report", c, func(ctx context.Context, _ *job) (any, error) {
		return l.svc.ReportSet(ctx, m.ID, options)
	}))
}

func (l *link) pinSet(c call, ref string) (dbus.ObjectPath, error) {
	m, err := resolve(l.svc.Sets(), ref)
	if err != nil {
		return "/", err
	}
	by := l.userOf(c)
	return pathOf(l.jobs.start("pin", c, func(ctx context.Context, _ *job) (any, error) { return nil, l.svc.PinSet(ctx, m.ID, by) }))
}

func (l *link) unpinSet(c call, ref string) (dbus.ObjectPath, error) {
	m, err := resolve(l.svc.Sets(), ref)
	if err != nil {
		return "/", err
	}
	return pathOf(l.jobs.start("unpin", c, func(ctx context.Context, _ *job) (any, error) { return nil, l.svc.UnpinSet(ctx, m.ID) }))
}

func (l *link) prunePolicy(c call, name string) (dbus.ObjectPath, error) {
	return pathOf(l.jobs.start("prune", c, func(ctx context.Context, _ *job) (any, error) {
		verdicts, err := l.svc.PrunePolicy(ctx, name, false)
		return array(verdicts), err
	}))
}

func (l *link) planPrune(c call, name string) (string, error) {
	verdicts, err := l.svc.PrunePolicy(c.ctx, name, true)
	if err != nil {
		return "", err
	}
	return toJSON(array(verdicts))
}

// userOf names the user who called, as far as the bus can tell.
func (l *link) userOf(c call) string {
	ctx, cancel := context.WithTimeout(c.ctx, busTimeout)
	defer cancel()
	var uid uint32
	if err := l.conn.BusObject().CallWithContext(ctx, busInterface+".GetConnectionUnixUser", 0, string(c.sender)).Store(&uid); err != nil {
		return ""
	}
	if u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10)); err == nil {
		return u.Username
	}
	return strconv.FormatUint(uint64(uid), 10)
}

// processOf is the number of the process that called; 0: the bus cannot tell.
func (l *link) processOf(c call) int {
	ctx, cancel := context.WithTimeout(c.ctx, busTimeout)
	defer cancel()
	var pid uint32
	if err := l.conn.BusObject().CallWithContext(ctx, busInterface+".GetConnectionUnixProcessID", 0, string(c.sender)).Store(&pid); err != nil {
		return 0
	}
	return int(pid)
}

func pathOf(j *job, err error) (dbus.ObjectPath, error) {
	if err != nil {
		return "/", err
	}
	return j.path(), nil
}

func (l *link) getSet(_ call, ref string) (string, error) {
	m, err := resolve(l.svc.Sets(), ref)
	if err != nil {
		return "", err
	}
	return toJSON(m)
}

func (l *link) listSets(call) (string, error)      { return toJSON(array(l.svc.Sets())) }
func (l *link) listPolicies(call) (string, error)  { return toJSON(array(l.svc.Policies())) }
func (l *link) listWriters(call) (string, error)   { return toJSON(array(l.svc.Writers())) }
func (l *link) listProviders(call) (string, error) { return toJSON(array(l.svc.Providers())) }

// status adds the jobs to what the service knows.
func (l *link) status(call) (string, error) {
	s := l.svc.Status()
	var busy []api.Occupation
	for _, j := range l.jobs.list() {
		if !j.isDone() {
			busy = append(busy, api.Occupation{What: occupation(describe(j))})
		}
	}
	s.Busy = append(busy, s.Busy...)
	return toJSON(s)
}

// inventoryTimeout bounds an inventory that asks LVM.
const inventoryTimeout = time.Minute

func (l *link) listPools(c call) (string, error) {
	ctx, cancel := context.WithTimeout(c.ctx, inventoryTimeout)
	defer cancel()
	pools, err := l.svc.Pools(ctx)
	if err != nil {
		return "", err
	}
	return toJSON(array(pools))
}

func (l *link) listVolumes(c call) (string, error) {
	ctx, cancel := context.WithTimeout(c.ctx, inventoryTimeout)
	defer cancel()
	volumes, err := l.svc.Volumes(ctx)
	if err != nil {
		return "", err
	}
	return toJSON(array(volumes))
}

// array makes an empty list of none, so that JSON has [] and not null.
func array[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func toJSON(v any) (string, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return "", api.Errorf(api.Failed, "internal error: cannot encode the answer: %w", err)
	}
	return string(text), nil
}
