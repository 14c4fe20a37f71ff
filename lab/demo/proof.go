package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// proveLedger compares what the second server has with what the client of the first was promised.
func proveLedger(ctx context.Context, d *demo) error {
	for _, port := range []int{copyPort, livePort} {
		if err := d.run(ctx, fmt.Sprintf("psql -p %d -c 'select count(*), max(n) from ledger_data'", port)); err != nil {
			return err
		}
	}
	rows, err := numbers(ctx, "ledger_data")
	if err != nil {
		return err
	}
	entries, err := d.ledger.all()
	if err != nil {
		return err
	}
	const clock = "15:04:05.000000"
	d.say("The freeze window was from %s to %s; in it, the volumes were captured from %s to %s.",
		d.window.begin.Format(clock), d.window.end.Format(clock), d.capture.begin.Format(clock), d.capture.end.Format(clock))
	j := judge(entries, rows, d.capture)
	for _, c := range []struct {
		ok   bool
		text string
	}{
		{j.promised > 0 && len(j.missing) == 0, fmt.Sprintf("acknowledged before the capture: %d, missing in the set: %d", j.promised, len(j.missing))},
		{j.later > 0 && len(j.early) == 0, fmt.Sprintf("sent after the capture: %d, of these in the set: %d", j.later, len(j.early))},
		{len(j.inFlight) <= 1 && len(j.unknown) == 0, fmt.Sprintf("in flight at the capture, in the set or not: %d; in the set and never sent: %d",
			len(j.inFlight), len(j.unknown))},
	} {
		if err := d.check(c.ok, "%s", c.text); err != nil {
			return err
		}
	}
	return nil
}

// numbers are a ledger table's rows, on the second server.
func numbers(ctx context.Context, table string) (map[int]bool, error) {
	values, err := column(ctx, copyPort, "select n from "+table)
	if err != nil {
		return nil, err
	}
	found := map[int]bool{}
	for _, v := range values {
		n, err := strconv.Atoi(v)
		if err != nil {
			return nil, err
		}
		found[n] = true
	}
	return found, nil
}

// proveAgreement shows that both volumes are of one instant: what stands on one of them fits what stands on the other.
func proveAgreement(ctx context.Context, d *demo) error {
	const difference = "select (select count(*) from ledger_data), (select count(*) from ledger_fast),\n" +
		"  (select count(*) from ledger_data full join ledger_fast using (n)\n" +
		"   where ledger_data is null or ledger_fast is null) as only_in_one"
	if err := d.run(ctx, "psql -p 5433 -c '"+difference+"'"); err != nil {
		return err
	}
	one, err := column(ctx, copyPort, "select count(*) from ledger_data full join ledger_fast using (n) where ledger_data is null or ledger_fast is null")
	if err != nil {
		return err
	}
	if err := d.check(len(one) == 1 && one[0] == "0", "ledger_data on ext4 and ledger_fast on XFS have the same numbers"); err != nil {
		return err
	}

	const sums = "select (select sum(abalance) from pgbench_accounts) as accounts,\n" +
		"  (select sum(tbalance) from pgbench_tellers) as tellers,\n" +
		"  (select sum(bbalance) from pgbench_branches) as branches,\n" +
		"  sum(delta) as history, count(*) as transactions from pgbench_history"
	if err := d.run(ctx, "psql -p 5433 -c '"+sums+"'"); err != nil {
		return err
	}
	same, err := column(ctx, copyPort, "select count(*) > 0 and count(distinct s) = 1 and count(s) = 4 and (select count(*) from pgbench_history) > 0 from (values "+
		"((select sum(abalance) from pgbench_accounts)), ((select sum(tbalance) from pgbench_tellers)), "+
		"((select sum(bbalance) from pgbench_branches)), ((select sum(delta) from pgbench_history))) as v(s)")
	if err != nil {
		return err
	}
	if err := d.check(len(same) == 1 && same[0] == "t", "pgbench's books balance: the four sums are equal"); err != nil {
		return err
	}

	if err := d.run(ctx, "/usr/lib/postgresql/15/bin/pg_amcheck -p 5433 --install-missing --heapallindexed --table 'pgbench_*' --table 'ledger_*'"); err != nil {
		return err
	}
	if err := d.check(true, "the tables fit their indexes, which lie on the other volume; all page checksums are right"); err != nil {
		return err
	}
	said, err := d.output(ctx, "journalctl --sync; journalctl -q -u postgresql-copy -o cat")
	if err != nil {
		return err
	}
	return d.check(!strings.Contains(said, "ERROR:") && !strings.Contains(said, "WARNING:") && !strings.Contains(said, "PANIC:"),
		"the second server has reported no error and no warning")
}

// around is how much time on both sides of the freeze window is looked at.
const around = 100 * time.Millisecond

// proveLive shows what the set cost the clients.
func proveLive(ctx context.Context, d *demo) error {
	entries, err := d.ledger.all()
	if err != nil {
		return err
	}
	now := time.Now()
	for _, i := range []struct {
		what string
		interval
	}{
		{"before", interval{entries[0].sent, d.asked.begin}},
		{"while the set was taken", d.asked},
		{"around the freeze window", interval{d.window.begin.Add(-around), d.window.end.Add(around)}},
		{"after", interval{d.asked.end, now}},
	} {
		p := during(entries, i.interval)
		d.say("%-24s %6d transactions in %6.2f s, the longest took %6.1f ms", i.what, p.count,
			i.end.Sub(i.begin).Seconds(), float64(p.longest.Microseconds())/1000)
	}
	d.say("The guest has one processor, which clients, both servers, LVM and Fermata share.")
	p := during(entries, d.asked)
	if err := d.check(p.count > 1, "the live database went on committing while the set was taken: %d transactions", p.count); err != nil {
		return err
	}
	last := entries[len(entries)-1]
	if err := d.check(now.Sub(last.acked) < 10*time.Second, "and it is committing now: number %d, %v ago", len(entries),
		now.Sub(last.acked).Round(time.Millisecond)); err != nil {
		return err
	}
	state, err := d.output(ctx, "systemctl show -P ActiveState pgbench")
	if err != nil {
		return err
	}
	return d.check(strings.TrimSpace(state) == "active", "pgbench has met no error")
}
