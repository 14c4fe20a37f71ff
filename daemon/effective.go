package daemon

import (
	"errors"
	"fmt"

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/daemon/api"
)

// effective is a policy with its writers, after the request has had its say.
type effective struct {
	config.Policy
	writers []config.Writer
}

// policy makes a request's effective policy, and fills into the request what the policy says.
func (d *Daemon) policy(r *api.Request) (effective, error) {
	invalid := func(err error) (effective, error) { return effective{}, classed(api.Invalid, err) }
	c := d.o.Config
	e := effective{Policy: config.Policy{
		Volumes: r.Volumes, Writers: r.Writers, Provider: r.Provider, Providers: r.Providers, OnFailure: config.OnFailureAbort,
		Limits: c.Daemon.Limits.Limits, Consistency: config.ConsistencyFilesystem, Labels: r.Labels,
	}}
	if len(r.Writers) > 0 {
		e.Consistency = config.ConsistencyApplication
	}
	switch {
	case r.Policy != "" && len(r.Volumes)+len(r.Writers) > 0:
		return invalid(errors.New("cannot take a policy and volumes or writers in one request"))
	case r.Policy != "":
		p, err := c.Policy(r.Policy)
		if err != nil {
			return invalid(err)
		}
		e.Policy = p
		if r.Retry == 0 {
			r.Retry, r.RetryWait = p.Retry.Count, p.Retry.Wait
		}
		if r.Provider != "" {
			e.Provider, e.Providers = r.Provider, nil
		}
		e.Providers = merge(e.Providers, r.Providers)
		e.Labels = merge(p.Labels, r.Labels)
	case len(r.Volumes)+len(r.Writers) == 0:
		return invalid(errors.New("cannot take a set of nothing: name a policy or volumes"))
	}
	if err := d.method(*r, &e); err != nil {
		return invalid(err)
	}
	if r.Consistency != "" {
		if r.Consistency.Rank() == 0 {
			return invalid(fmt.Errorf("unknown consistency %q: application, filesystem or crash", r.Consistency))
		}
		e.Consistency = config.Consistency(r.Consistency)
	}
	for _, name := range e.Policy.Writers {
		w, err := d.writer(name)
		if err != nil {
			return invalid(err)
		}
		if e.OnFailure == config.OnFailureDegrade {
			w.OnFailure = config.OnFailureDegrade
		}
		e.writers = append(e.writers, w)
	}
	return e, nil
}

func merge(a, b map[string]string) map[string]string {
	out := map[string]string{}
	for _, m := range []map[string]string{a, b} {
		for k, v := range m {
			out[k] = v
		}
	}
	return out
}
