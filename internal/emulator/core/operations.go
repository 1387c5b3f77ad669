package core

import (
	"slices"

	"iothub-runner/internal/emulator/access"
	"iothub-runner/internal/emulator/fleet"
	"iothub-runner/internal/emulator/refuse"
	"iothub-runner/internal/emulator/store"
)

// Operation is what a request asks the hub to do. Permissions, throttles and
// faults are chosen by it.
type Operation int

// The operations.
const (
	OpUnknown Operation = iota
	OpGetTwin
	OpPatchTwin
	OpPutTwin
	OpInvoke
	OpQuery
	OpGetDevice
	OpPutDevice
	OpDeleteDevice
	OpListDevices
	OpBulk
	OpListModules
	OpGetModule
	OpPutModule
	OpDeleteModule
	OpDeviceStatistics
	OpServiceStatistics
	OpPurge
	OpPutJob
	OpGetJob
	OpCancelJob
	OpListJobs
	OpListOldJobs
	OpGetOldJob
	OpNotEmulated
)

// Needs returns the permissions of which the caller must have one.
func (o Operation) Needs() access.Permission {
	switch o {
	case OpGetDevice, OpListDevices, OpListModules, OpGetModule, OpDeviceStatistics, OpServiceStatistics:
		return access.RegistryRead
	case OpPutDevice, OpDeleteDevice, OpBulk, OpPutModule, OpDeleteModule:
		return access.RegistryWrite
	case OpPutJob, OpGetJob, OpCancelJob, OpListJobs, OpListOldJobs, OpGetOldJob:
		// The documents' samples use a policy that has everything; which part
		// of it the live hub asks for is not known, so either will do.
		return access.ServiceConnect | access.RegistryWrite
	case OpGetTwin, OpPatchTwin, OpPutTwin, OpInvoke, OpQuery, OpPurge, OpUnknown, OpNotEmulated:
	}
	return access.ServiceConnect
}

// Action returns the data action that an identity of Entra ID must be allowed, below
// Microsoft.Devices/IotHubs.
func (o Operation) Action() string {
	switch o {
	case OpGetTwin, OpQuery:
		return "twins/read"
	case OpPatchTwin, OpPutTwin:
		return "twins/write"
	case OpInvoke:
		return "directMethods/invoke/action"
	case OpGetDevice, OpListDevices, OpListModules, OpGetModule:
		return "devices/read"
	case OpPutDevice, OpBulk, OpPutModule:
		return "devices/write"
	case OpDeleteDevice, OpDeleteModule:
		return "devices/delete"
	case OpDeviceStatistics, OpServiceStatistics:
		return "statistics/read"
	case OpPutJob:
		return "jobs/write"
	case OpCancelJob:
		return "jobs/delete"
	case OpGetJob, OpListJobs, OpListOldJobs, OpGetOldJob:
		return "jobs/read"
	case OpPurge:
		return "cloudToDeviceMessages/queue/purge/action"
	case OpUnknown, OpNotEmulated:
	}
	return "unknown"
}

// Shape says whether errors take the form of direct methods.
func (o Operation) Shape() refuse.Shape {
	if o == OpInvoke {
		return refuse.ShapeMethod
	}
	return refuse.ShapeGateway
}

// counted says which counter an operation has.
func counted(op fleet.Operation) int {
	switch op {
	case fleet.OpMethod:
		return store.CountMethod
	case fleet.OpTwinRead:
		return store.CountTwinRead
	case fleet.OpTwinWrite:
		return store.CountTwinWrite
	case fleet.OpRegistryRead:
		return store.CountRegistryRead
	case fleet.OpRegistryWrite:
		return store.CountRegistryWrite
	case fleet.OpQuery:
		return store.CountQuery
	case fleet.OpJob, fleet.OpJobPut, fleet.OpJobGet, fleet.OpJobCancel, fleet.OpJobList:
		return countedJob(op)
	case fleet.OpStatistics:
		return store.CountStatistics
	case fleet.OpConnect:
		return store.CountConnect
	case fleet.OpTelemetry:
		return store.CountTelemetry
	case fleet.OpTwinGet:
		return store.CountTwinGet
	case fleet.OpReportedPatch:
		return store.CountReportedPatch
	}
	panic("emulator: an operation of fault rules that is not counted: " + string(op))
}

// countedJob is one of the counters from CountJob on, which are in this order.
func countedJob(op fleet.Operation) int {
	order := [...]fleet.Operation{fleet.OpJob, fleet.OpJobPut, fleet.OpJobGet, fleet.OpJobCancel, fleet.OpJobList}
	return store.CountJob + slices.Index(order[:], op)
}

// FaultOperation is an operation as fault rules name it.
func (o Operation) FaultOperation() fleet.Operation {
	switch o {
	case OpGetTwin:
		return fleet.OpTwinRead
	case OpPatchTwin, OpPutTwin:
		return fleet.OpTwinWrite
	case OpInvoke:
		return fleet.OpMethod
	case OpQuery:
		return fleet.OpQuery
	case OpGetDevice, OpListDevices, OpListModules, OpGetModule:
		return fleet.OpRegistryRead
	case OpPutDevice, OpDeleteDevice, OpBulk, OpPutModule, OpDeleteModule, OpPurge:
		return fleet.OpRegistryWrite
	case OpPutJob:
		return fleet.OpJobPut
	case OpGetJob, OpGetOldJob:
		return fleet.OpJobGet
	case OpCancelJob:
		return fleet.OpJobCancel
	case OpListJobs, OpListOldJobs:
		return fleet.OpJobList
	case OpDeviceStatistics, OpServiceStatistics:
		return fleet.OpStatistics
	case OpUnknown, OpNotEmulated:
	}
	return ""
}

// ThrottleName is the hub's word for the class of an operation in that text.
func (o Operation) ThrottleName() string {
	switch o {
	case OpInvoke:
		return "DirectMethods"
	case OpQuery:
		return "Query"
	case OpGetTwin:
		return "TwinReads"
	case OpPatchTwin, OpPutTwin:
		return "TwinUpdates"
	case OpPutJob, OpGetJob, OpCancelJob, OpListJobs, OpListOldJobs, OpGetOldJob:
		return "Jobs"
	case OpGetDevice, OpPutDevice, OpDeleteDevice, OpListDevices, OpBulk, OpListModules, OpGetModule,
		OpPutModule, OpDeleteModule, OpDeviceStatistics, OpServiceStatistics, OpPurge, OpUnknown, OpNotEmulated:
	}
	return "CRUD"
}

// Throttle returns the class of an operation; throttleClasses for those that
// no limit counts.
func (o Operation) Throttle() ThrottleClass {
	switch o {
	case OpGetTwin:
		return ThrottleTwinReads
	case OpPatchTwin, OpPutTwin:
		return ThrottleTwinUpdates
	case OpInvoke:
		return ThrottleMethods
	case OpQuery:
		return ThrottleQueries
	case OpPutJob, OpGetJob, OpCancelJob, OpListJobs, OpListOldJobs, OpGetOldJob:
		return ThrottleJobs
	case OpGetDevice, OpPutDevice, OpDeleteDevice, OpListDevices, OpBulk, OpListModules, OpGetModule,
		OpPutModule, OpDeleteModule, OpDeviceStatistics, OpServiceStatistics, OpPurge:
		return ThrottleRegistry
	case OpUnknown, OpNotEmulated:
	}
	return ThrottleClasses
}
