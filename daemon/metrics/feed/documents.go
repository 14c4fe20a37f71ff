package feed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/fermata-project/fermata/daemon/api"
)

var format = expfmt.NewFormat(expfmt.TypeProtoDelim)

// Metrics is the document of metrics.
func Metrics(from prometheus.Gatherer) func(io.Writer) error {
	return func(w io.Writer) error {
		families, err := from.Gather()
		if err != nil {
			return err
		}
		e := expfmt.NewEncoder(w, format)
		for _, f := range families {
			if err := e.Encode(f); err != nil {
				return err
			}
		}
		return nil
	}
}

// Read reads the metrics that the daemon behind the socket has to tell.
func Read(ctx context.Context, socket string) ([]*dto.MetricFamily, error) {
	var families []*dto.MetricFamily
	err := read(ctx, socket, func(from io.Reader) error {
		d := expfmt.NewDecoder(from, format)
		for {
			f := new(dto.MetricFamily)
			switch err := d.Decode(f); {
			case errors.Is(err, io.EOF) && len(families) > 0:
				return nil
			case err != nil:
				return fmt.Errorf("cannot read the daemon's metrics: %w", err)
			}
			families = append(families, f)
		}
	})
	if err != nil {
		return nil, err
	}
	return families, nil
}

// Overview is the document of what there is now.
func Overview(now func() api.Overview) func(io.Writer) error {
	return func(w io.Writer) error { return json.NewEncoder(w).Encode(now()) }
}

// ReadOverview reads the overview that the daemon behind the socket has to give.
func ReadOverview(ctx context.Context, socket string) (*api.Overview, error) {
	o := new(api.Overview)
	err := read(ctx, socket, func(from io.Reader) error {
		if err := json.NewDecoder(from).Decode(o); err != nil {
			return fmt.Errorf("cannot read the daemon's overview: %w", err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return o, nil
}
