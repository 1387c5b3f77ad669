package spec

func planFields() []Field {
	return []Field{
		{Path: "version", Type: FieldInteger, Required: true, Min: "1", Max: "1", Doc: "Version of the plan language.", Example: "1"},
		{Path: "name", Type: FieldText, Required: true, Format: "name", Doc: "Identifies the plan's runs, locks and journals.", Example: "lock-building-43"},
		{Path: "description", Type: FieldText, Doc: "What the plan is for, in words.", Example: "Move the doors of building 43 to floor 3 and lock them."},
		{Path: "hub", Type: FieldObject, Doc: "The hub that the plan is meant for. Credentials never stand here.", Example: "{hostName: contoso.azure-devices.net, sku: S1, units: 1}"},
		{Path: "hub.hostName", Type: FieldText, Format: "hostName", Synonyms: []string{"host", "name"}, Doc: "The hub's host name; apply refuses any other hub.", Example: "contoso.azure-devices.net"},
		{Path: "hub.sku", Type: FieldText, Values: []string{"F1", "S1", "S2", "S3"}, Synonyms: []string{"tier"}, Doc: "The hub's size; requests stay below its published throttles.", Example: "S1"},
		{Path: "hub.units", Type: FieldInteger, Min: "1", Max: "200", Default: "1", Doc: "How many units of the sku the hub has.", Example: "2"},
		{Path: "hubs", Type: FieldObject, List: true, Doc: "Several hubs instead of one; the plan runs on all of them at once, with one report. concurrency counts for each hub; rate, target.limit, expect and tolerate for all together.", Example: "[{hostName: contoso-eu.azure-devices.net, connectionStringEnv: HUB_EU}]"},
		{Path: "hubs[].hostName", Type: FieldText, Required: true, Format: "hostName", Synonyms: []string{"host", "name"}, Doc: "The hub's host name.", Example: "contoso-eu.azure-devices.net"},
		{Path: "hubs[].connectionStringEnv", Type: FieldText, Format: "envName", Synonyms: []string{"env", "connectionstring"}, Doc: "The environment variable that holds the hub's connection string. Without it IOTHUB_SERVICE_CONNECTION_STRING has to be that of this hub.", Example: "HUB_EU"},
		{Path: "hubs[].sku", Type: FieldText, Values: []string{"F1", "S1", "S2", "S3"}, Synonyms: []string{"tier"}, Doc: "The hub's size; requests stay below its published throttles.", Example: "S2"},
		{Path: "hubs[].units", Type: FieldInteger, Min: "1", Max: "200", Default: "1", Doc: "How many units of the sku the hub has.", Example: "2"},
		{Path: "vars", Type: FieldNames, Short: "default", Synonyms: []string{"variables", "parameters"}, Doc: "Variables by name; ${var.NAME} in a text stands for the value. A value alone is a default.", Example: "{building: {type: integer, default: 43}}"},
		{Path: "vars[].type", Type: FieldText, Values: []string{VarString, VarInteger, VarNumber, VarBoolean}, Doc: "What values the variable takes; without it, what the default is.", Example: "integer"},
		{Path: "vars[].default", Type: FieldScalar, Synonyms: []string{"value"}, Doc: "The value when none is given; without it, --var must give one.", Example: "43"},
		{Path: "vars[].sensitive", Type: FieldBoolean, Default: "false", Doc: "Whether the value is a secret: it is shown and stored nowhere, and a resumed run asks for it again. It has no default; give it by the environment variable RUNNER_VAR_NAME.", Example: "true"},
		{Path: "vars[].allowEmpty", Type: FieldBoolean, Doc: "Whether the value may be an empty text where a query uses it, which can select far more than is meant.", Default: "false", Example: "true"},
		{Path: "vars[].description", Type: FieldText, Doc: "What the variable is for.", Example: "Which building"},
		{Path: "defaults", Type: FieldObject, Doc: "Fields for every job that does not set them itself. Of retry, each key counts on its own; every other field counts as a whole.", Example: "{concurrency: 64, deadline: 2h, retry: {attempts: 4}}"},
	}
}

func jobFields() []Field {
	return []Field{
		{Path: "jobs", Type: FieldObject, List: true, Required: true, Synonyms: []string{"tasks", "steps"}, Doc: "What to do. All jobs run at once, each on its own clock.", Example: "[{name: lock, type: directMethod, target: tags.building = 43, method: lockDoor}]"},
		{Path: "jobs[].name", Type: FieldText, Required: true, Format: "name", Synonyms: []string{"id", "jobid"}, Doc: "Names the job in the report; no two jobs share one.", Example: "lock"},
		{Path: "jobs[].type", Type: FieldText, Required: true, Values: []string{string(TypeDirectMethod), string(TypeUpdateTwin)}, Synonyms: []string{"kind", "jobtype"}, Doc: "What the job does to each device.", Example: "directMethod"},
		{Path: "jobs[].target", Type: FieldObject, Short: "query", Required: true, Synonyms: []string{"query", "where", "condition", "querycondition", "devices"}, Doc: "Which devices or modules the job acts on. A text alone is the query.", Example: "tags.building = 43"},
		{Path: "jobs[].delay", Type: FieldDuration, Default: "0s", Min: "0s", Synonyms: []string{"after", "wait"}, Doc: "How long after the start of the run the job is due, or after the jobs that it needs.", Example: "10s"},
		{Path: "jobs[].at", Type: FieldTime, Synonyms: []string{"starttime", "start"}, Doc: "When the job is due, instead of delay: with an offset, or without one in the job's timezone. With needs it starts when both have come: the time, and the end of those jobs.", Example: "2026-12-01T02:00:00Z"},
		{Path: "jobs[].timezone", Type: FieldText, Shared: true, Format: "timezone", Synonyms: []string{"tz"}, Doc: "The time zone of an at without an offset and of the window's hours, by its IANA name. An hour that the clocks skip is one hour later; of one that comes twice, the first counts.", Example: "Europe/Paris"},
		{Path: "jobs[].needs", Type: FieldObject, List: true, Short: "job", Synonyms: []string{"dependson", "need"}, Doc: "Jobs that must have ended first. A name alone asks for success.", Example: "[move]"},
		{Path: "jobs[].needs[].job", Type: FieldText, Required: true, Synonyms: []string{"name"}, Doc: "The name of a job of this plan.", Example: "move"},
		{Path: "jobs[].needs[].if", Type: FieldText, Default: string(NeedSucceeded), Values: []string{string(NeedSucceeded), string(NeedAlways)}, Synonyms: []string{"when", "condition"}, Doc: "How that job must have ended.", Example: "always"},
	}
}

func targetFields() []Field {
	return []Field{
		{Path: "jobs[].target.query", Type: FieldText, Synonyms: []string{"where", "condition"}, Doc: "A condition of the twin query language, or a full SELECT from devices or devices.modules.", Example: "tags.building = 43"},
		{Path: "jobs[].target.devices", Type: FieldText, List: true, Format: "deviceID", Synonyms: []string{"ids", "deviceids"}, Doc: "Devices by id, and modules as device/module; added to what the query finds.", Example: "[door-1, door-2]"},
		{Path: "jobs[].target.devicesFile", Type: FieldText, Synonyms: []string{"file", "idsfile"}, Doc: "A file of at most 160 MB beside the plan: a text with one device or device/module a line, where # starts a comment; or values for each device, which ${row.NAME} stands for: .csv with a header, or .ndjson with an object a line. Column or key deviceId names the device, moduleId a module of it. Values of CSV are texts; ${row.NAME|number} and ${row.NAME|boolean} convert.", Example: "doors.txt"},
		{Path: "jobs[].target.exclude", Type: FieldText, List: true, Format: "deviceID", Synonyms: []string{"except"}, Doc: "Devices to leave out, with their modules, or single modules.", Example: "[door-9]"},
		{Path: "jobs[].target.limit", Type: FieldInteger, Min: "1", Doc: "At most so many devices.", Example: "500"},
		{Path: "jobs[].target.expect", Type: FieldObject, Doc: "How many devices there must be; checked before the first request to one.", Example: "{min: 1, max: 500}"},
		{Path: "jobs[].target.expect.min", Type: FieldInteger, Min: "0", Default: "0", Doc: "The fewest devices.", Example: "1"},
		{Path: "jobs[].target.expect.excluded", Type: FieldBoolean, Default: "false", Doc: "Whether the target has to select everything that exclude names; a misspelled one ends the job before it begins.", Example: "true"},
		{Path: "jobs[].target.expect.max", Type: FieldInteger, Min: "1", Doc: "The most devices.", Example: "500"},
		{Path: "jobs[].target.allowEmpty", Type: FieldBoolean, Default: "false", Doc: "Lets the job succeed when there is no device to act on.", Example: "true"},
		{Path: "jobs[].target.all", Type: FieldBoolean, Default: "false", Doc: "Selects the whole hub; nothing else does.", Example: "true"},
	}
}

func methodFields() []Field {
	return []Field{
		{Path: "jobs[].method", Type: FieldText, Format: "method", Only: TypeDirectMethod, Synonyms: []string{"methodname"}, Doc: "The direct method to call.", Example: "lockDoor"},
		{Path: "jobs[].payload", Type: FieldJSON, Only: TypeDirectMethod, Synonyms: []string{"body", "args"}, Doc: "What the method is given: any value. Without it the call has no payload.", Example: "{lockTime: 10m}"},
		{Path: "jobs[].payloadFile", Type: FieldText, Only: TypeDirectMethod, Doc: "A JSON file beside the plan that holds the payload, at most 1 MB; nothing is filled in there.", Example: "payload.json"},
		{Path: "jobs[].connectTimeout", Type: FieldDuration, Shared: true, Only: TypeDirectMethod, Default: "0s", Min: "0s", Max: "5m", Doc: "How long the hub waits for a device that is not connected.", Example: "10s"},
		{Path: "jobs[].responseTimeout", Type: FieldDuration, Shared: true, Only: TypeDirectMethod, Default: "30s", Min: "5s", Max: "5m", Synonyms: []string{"timeout"}, Doc: "How long the hub waits for the device's answer.", Example: "60s"},
		{Path: "jobs[].success", Type: FieldObject, Shared: true, Only: TypeDirectMethod, Doc: "Which answers of a device count as success.", Example: "{status: [200, 204]}"},
		{Path: "jobs[].success.status", Type: FieldStatuses, Default: "200-299", Required: true, Min: "0", Max: "2147483647", Doc: "The statuses: a number, a range, or a list of them.", Example: `[200, "210-219"]`},
		{Path: "jobs[].idempotent", Type: FieldBoolean, Shared: true, Only: TypeDirectMethod, Default: "false", Doc: "Says that a call which may have run may be sent again.", Example: "true"},
		{Path: "jobs[].guard", Type: FieldText, Shared: true, Only: TypeUpdateTwin, Default: string(GuardETag), Values: []string{string(GuardETag), string(GuardNone), string(GuardRecorded)}, Doc: "What keeps a patch from overwriting changes it was not computed from: the twin's etag as it is read, nothing, or the etag that the device's row in the devicesFile has; then a twin that was changed since is skipped.", Example: "none"},
		{Path: "jobs[].offline", Type: FieldText, Shared: true, Only: TypeDirectMethod, Default: string(OfflineFail), Values: []string{string(OfflineFail), string(OfflineSkip), string(OfflineWait)}, Doc: "What becomes of a device that is not online; wait tries until the deadline.", Example: "wait"},
		{Path: "jobs[].desired", Type: FieldJSONMap, Only: TypeUpdateTwin, Synonyms: []string{"properties"}, Doc: "Desired properties to merge into the twin; null deletes a key.", Example: "{building: 43, floor: 3}"},
		{Path: "jobs[].tags", Type: FieldJSONMap, Only: TypeUpdateTwin, Doc: "Tags to merge into the twin; null deletes a key.", Example: "{moved: true}"},
		{Path: "jobs[].confirm", Type: FieldObject, Doc: "Waits until the device itself reports the change. Only what it reports after the patch, or after its answer to the method, counts.", Example: "{reported: {floor: 3}, within: 15m}"},
		{Path: "jobs[].confirm.reported", Type: FieldJSONMap, Doc: "What the device must report. Without it, a twin job waits for the desired properties that it has changed.", Example: "{floor: 3}"},
		{Path: "jobs[].confirm.changed", Type: FieldText, List: true, Doc: "Reported properties that must get a new value, whichever it is; a dot goes down one level.", Example: "[bootTime, firmware.version]"},
		{Path: "jobs[].confirm.within", Type: FieldDuration, Default: "15m", Min: "1s", Synonyms: []string{"timeout"}, Doc: "How long it may take.", Example: "15m"},
	}
}

func policyFields() []Field {
	return []Field{
		{Path: "jobs[].concurrency", Type: FieldInteger, Shared: true, Default: "64", Min: "1", Max: "10000", Synonyms: []string{"parallel", "parallelism"}, Doc: "How many attempts of the job are under way at once.", Example: "32"},
		{Path: "jobs[].rate", Type: FieldRate, Shared: true, Min: "1/h", Max: "100000/s", Doc: "How many attempts start in a second, minute or hour.", Example: "40/s"},
		{Path: "jobs[].deadline", Type: FieldDuration, Shared: true, Min: "1s", Synonyms: []string{"maxexecutiontime", "maxexecutiontimeinseconds"}, Doc: "The job's time budget, from the moment it is due.", Example: "1h"},
		{Path: "jobs[].retry", Type: FieldObject, Shared: true, Synonyms: []string{"retries"}, Doc: "How often and how soon a device is tried again.", Example: "{attempts: 5, backoff: 2s, maxBackoff: 1m}"},
		{Path: "jobs[].retry.attempts", Type: FieldInteger, Default: "4", Min: "1", Max: "100", Synonyms: []string{"count", "max"}, Doc: "Attempts for one device, the first one included.", Example: "5"},
		{Path: "jobs[].retry.backoff", Type: FieldDuration, Default: "1s", Min: "1ms", Synonyms: []string{"delay"}, Doc: "The wait before the second attempt is at most this long; it doubles each time.", Example: "2s"},
		{Path: "jobs[].retry.maxBackoff", Type: FieldDuration, Default: "1m", Min: "1ms", Synonyms: []string{"maxdelay"}, Doc: "No wait is longer.", Example: "1m"},
	}
}

func rolloutFields() []Field {
	return []Field{
		{Path: "jobs[].window", Type: FieldObject, Shared: true, Doc: "The hours in which attempts may start. The job waits for the window to open and stops when it closes.", Example: `{from: "02:00", to: "04:30", timezone: Europe/Paris}`},
		{Path: "jobs[].window.from", Type: FieldClock, Required: true, Synonyms: []string{"start"}, Doc: "When the window opens.", Example: `"02:00"`},
		{Path: "jobs[].window.to", Type: FieldClock, Required: true, Synonyms: []string{"end", "until"}, Doc: "When it closes; before from means on the next day.", Example: `"04:30"`},
		{Path: "jobs[].window.days", Type: FieldText, List: true, Values: []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}, Doc: "The days on which it opens; without it, every day.", Example: "[mon, tue]"},
		{Path: "jobs[].window.timezone", Type: FieldText, Format: "timezone", Synonyms: []string{"tz"}, Doc: "The time zone of the hours, by its IANA name. Without it, the job's timezone, or UTC.", Example: "Europe/Paris"},
		{Path: "jobs[].ifLate", Type: FieldText, Shared: true, Default: string(LateFail), Values: []string{string(LateFail), string(LateSkip), string(LateRun)}, Doc: "What to do when at has passed by more than a minute as the run starts: end the run before anything is sent, leave this job out, or start it at once. A window alone is never late: the job waits for it to open.", Example: "skip"},
		{Path: "jobs[].rollout", Type: FieldObject, Shared: true, Synonyms: []string{"waves"}, Doc: "Slices of the target, each started when the one before went well.", Example: "{waves: [1, 10%, 100%], pause: 5m}"},
		{Path: "jobs[].rollout.waves", Type: FieldObject, List: true, Required: true, Short: "size", Doc: "The waves in order; the last one is 100%, which is everybody who is left. A count or a share alone is the size.", Example: "[1, {query: tags.ring = 0}, 10%, 100%]"},
		{Path: "jobs[].rollout.waves[].size", Type: FieldShare, Synonyms: []string{"count", "percent"}, Doc: "How many devices of the target are under way by the end of the wave; sizes rise.", Example: "10%"},
		{Path: "jobs[].rollout.waves[].devices", Type: FieldText, List: true, Format: "deviceID", Synonyms: []string{"ids"}, Doc: "These devices or modules of the target, instead of a size.", Example: "[door-1, door-2]"},
		{Path: "jobs[].rollout.waves[].query", Type: FieldText, Synonyms: []string{"where", "condition"}, Doc: "The devices of the target that a condition selects, instead of a size.", Example: "tags.ring = 0"},
		{Path: "jobs[].rollout.pause", Type: FieldDuration, Default: "0s", Min: "0s", Values: []string{PauseManual}, Doc: "The wait between waves. With manual the run ends after each wave, with exit code 5, and goes on with the next one when it is resumed.", Example: "5m"},
		{Path: "jobs[].rollout.stopWhen", Type: FieldObject, Synonyms: []string{"stopif"}, Doc: "Ends the rollout when too many of the finished devices missed.", Example: "{failed: 5%, minDone: 20}"},
		{Path: "jobs[].rollout.stopWhen.failed", Type: FieldShare, Doc: "Devices that failed, rejected, did not answer or did not confirm: a count, or a share of the finished ones. Reaching it stops the job.", Example: "5%"},
		{Path: "jobs[].rollout.stopWhen.offline", Type: FieldShare, Doc: "Devices that were offline, counted in the same way.", Example: "30%"},
		{Path: "jobs[].rollout.stopWhen.minDone", Type: FieldInteger, Min: "0", Default: "0", Doc: "Not before so many devices are finished.", Example: "20"},
		{Path: "jobs[].rollout.scope", Type: FieldText, Default: string(ScopePlan), Values: []string{string(ScopePlan), string(ScopeHub)}, Doc: "In a plan with several hubs, whether waves and stopWhen count the devices of all hubs together, or those of each hub for itself.", Example: "hub"},
		{Path: "jobs[].rollout.ramp", Type: FieldObject, Doc: "Lets the job begin slowly and grow faster with each device that succeeds.", Example: "{from: 10/m, factor: 2, every: 50}"},
		{Path: "jobs[].rollout.ramp.from", Type: FieldRate, Required: true, Min: "1/h", Max: "100000/s", Synonyms: []string{"start", "base"}, Doc: "The rate of attempts at first.", Example: "10/m"},
		{Path: "jobs[].rollout.ramp.factor", Type: FieldNumber, Default: "2", Min: "1.1", Max: "10", Synonyms: []string{"increment"}, Doc: "What the rate is multiplied by each time.", Example: "2"},
		{Path: "jobs[].rollout.ramp.every", Type: FieldInteger, Required: true, Min: "1", Synonyms: []string{"after"}, Doc: "After how many more devices that succeeded. The job's rate, if it has one, is the most.", Example: "50"},
		{Path: "jobs[].tolerate", Type: FieldObject, Shared: true, Doc: "How many devices may miss for the job still to succeed: counts, or shares of its targets. A device that did not answer is never tolerated: it may have acted.", Example: "{offline: 10%, failed: 0}"},
		{Path: "jobs[].tolerate.failed", Type: FieldShare, Default: "0", Doc: "Devices that failed, rejected or did not confirm.", Example: "0"},
		{Path: "jobs[].tolerate.offline", Type: FieldShare, Default: "0", Doc: "Devices that were offline.", Example: "10%"},
		{Path: "jobs[].tolerate.hubs", Type: FieldShare, Default: "0", Doc: "Hubs of the plan that cannot be used, with the devices that were not reached because of it.", Example: "1"},
		{Path: "jobs[].engine", Type: FieldText, Shared: true, Default: string(EngineDirect), Values: []string{string(EngineDirect), string(EngineHubJobs)}, Doc: "Who fans out: this process, or the hub's own jobs service.", Example: "hubJobs"},
	}
}
