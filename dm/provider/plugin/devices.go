package plugin

import (
	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/dm/provider"
)

// DeviceMapper is the kernel's.
type DeviceMapper struct{ Control *dm.Control }

// Suspension skips the filesystem freeze: the filesystem is frozen already (docs/adr/0001).
func (d DeviceMapper) Suspension(v provider.Volume) *provider.Suspension {
	return provider.NewSuspension(v.Dev, v.Name, d.Control.PrepareInfo(v.Dev),
		d.Control.PrepareSuspend(v.Dev, dm.SkipLockFS), d.Control.PrepareResume(v.Dev, dm.SkipLockFS))
}

func (d DeviceMapper) Suspended(dev dm.Dev) (bool, error) {
	info, err := d.Control.Info(dm.ByDev(dev))
	return info.Suspended, err
}
