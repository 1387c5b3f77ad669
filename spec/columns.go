package spec

import (
	"strconv"
	"strings"
)

// Columns are what a query selects of a twin besides its id.
type Columns struct {
	ETag bool
	Seen bool // when the hub last heard of the device, or of the module
	TwinSections
}

// Columns returns what has to be seen of a twin to know what the job sends to it.
func (j *Job) Columns() Columns {
	var c Columns
	var templates []*Template
	if u := j.Twin; u != nil {
		c.ETag, c.Tags, c.Desired = true, u.Tags != nil || u.TagsTemplate != nil, u.Desired != nil || u.DesiredTemplate != nil
		templates = append(templates, u.DesiredTemplate, u.TagsTemplate)
	}
	if j.Method != nil {
		c.Seen = j.Offline == OfflineWait
		templates = append(templates, j.Method.Template)
	}
	if j.Confirm != nil && j.Twin != nil {
		templates = append(templates, j.Confirm.Template)
	}
	for _, t := range templates {
		if t != nil {
			c.Add(t.Reads())
		}
	}
	c.ETag = c.ETag || c.TwinSections != (TwinSections{})
	return c
}

// Add selects more sections.
func (c *Columns) Add(s TwinSections) {
	c.Tags = c.Tags || s.Tags
	c.Desired = c.Desired || s.Desired
	c.Reported = c.Reported || s.Reported
}

// Query returns the query that lists the target with some columns; empty if the
// plan names all devices itself.
func (t *Target) Query(c Columns) string {
	if !t.All && t.Where == "" {
		return ""
	}
	var b strings.Builder
	b.WriteString("SELECT ")
	if t.Top > 0 {
		b.WriteString("TOP " + strconv.Itoa(t.Top) + " ")
	}
	b.WriteString("deviceId")
	for _, column := range []struct {
		text   string
		wanted bool
	}{
		{"moduleId", t.Source == SourceModules},
		{"etag", c.ETag},
		{"lastActivityTime", c.Seen},
		{"tags", c.Tags},
		{"properties.desired AS desired", c.Desired},
		{"properties.reported AS reported", c.Reported},
	} {
		if column.wanted {
			b.WriteString(", " + column.text)
		}
	}
	b.WriteString(" FROM " + string(t.Source))
	if t.Where != "" {
		b.WriteString(" WHERE " + t.Where)
	}
	return b.String()
}

// CountQuery returns the query that counts what the target selects by a
// condition; empty if it names all devices itself.
func (t *Target) CountQuery() string {
	if !t.All && t.Where == "" {
		return ""
	}
	text := "SELECT COUNT() AS n FROM " + string(t.Source)
	if t.Where != "" {
		text += " WHERE " + t.Where
	}
	return text
}
