package hubclient

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"iothub-runner/internal/hub"
)

// Query returns one page of a twin query.
func (c *Client) Query(ctx context.Context, q hub.Query) (hub.Page, error) {
	a, err := c.query(ctx, "query", q, maxPage)
	if err != nil {
		return hub.Page{}, err
	}
	rows, err := decodePage(a.body)
	if err != nil {
		return hub.Page{}, badAnswer(a, err)
	}
	return hub.Page{Rows: rows, Continuation: a.header.Get("X-Ms-Continuation")}, nil
}

// query makes the request that all queries are, and reads so many bytes of answer at
// most.
func (c *Client) query(ctx context.Context, op string, q hub.Query, limit int64) (answer, error) {
	body, err := json.Marshal(struct {
		Query string `json:"query"`
	}{q.Text})
	if err != nil {
		return answer{}, &hub.Error{Kind: hub.KindNotSent, Message: "encode query", Err: err}
	}
	return c.do(ctx, request{
		op: op, method: http.MethodPost, path: "/devices/query", body: body,
		extra: paging(q.PageSize, q.Continuation), timeout: requestTimeout, limit: limit,
	})
}

// Count carries out a query for one number, named n.
func (c *Client) Count(ctx context.Context, query string) (int, error) {
	a, err := c.query(ctx, "count", hub.Query{Text: query}, maxAnswer)
	if err != nil {
		return 0, err
	}
	n := gjson.GetBytes(a.body, "0.n")
	if n.Type != gjson.Number || n.Int() < 0 {
		return 0, badAnswer(a, errors.New("a count has no number"))
	}
	return int(n.Int()), nil
}

// Twin reads a twin directly, past the query index.
func (c *Client) Twin(ctx context.Context, t hub.Target) (hub.Twin, error) {
	a, err := c.do(ctx, request{
		op: "read twin", method: http.MethodGet, path: twinPath(t),
		timeout: requestTimeout, limit: maxAnswer,
	})
	if err != nil {
		return hub.Twin{}, err
	}
	twin, err := decodeTwin(a.body)
	if err != nil {
		return hub.Twin{}, badAnswer(a, err)
	}
	return twin, nil
}

// PatchTwin merges p into a twin whose etag is ifMatch. Of the new twin it
// returns ETag and Version alone, unless p.Whole asks for its sections.
func (c *Client) PatchTwin(ctx context.Context, t hub.Target, p hub.Patch, ifMatch string) (hub.Twin, error) {
	a, err := c.do(ctx, request{
		op: "patch twin", method: http.MethodPatch, path: twinPath(t), body: appendPatch(nil, p),
		// Without the quotes the hub ignores the header and patches in any case.
		extra:   header{{"If-Match", `"` + ifMatch + `"`}},
		timeout: requestTimeout, limit: maxAnswer,
	})
	if err != nil {
		return hub.Twin{}, err
	}
	twin, err := scanTwin(a.body, p.Whole)
	if err != nil {
		return hub.Twin{}, badAnswer(a, err)
	}
	return twin, nil
}

// Invoke calls a direct method and waits for the device's answer, for as long
// as the hub waits for it and a little more.
func (c *Client) Invoke(ctx context.Context, t hub.Target, call hub.Call) (hub.Answer, error) {
	a, err := c.do(ctx, request{
		op: "call method", method: http.MethodPost, path: twinPath(t) + "/methods", body: appendCall(nil, call),
		timeout: call.ConnectTimeout + call.ResponseTimeout + methodMargin, limit: maxAnswer,
	})
	if err != nil {
		return hub.Answer{}, err
	}
	answer, err := decodeAnswer(a.body)
	if err != nil {
		return hub.Answer{}, badAnswer(a, err)
	}
	return answer, nil
}

func twinPath(t hub.Target) string {
	path := "/twins/" + escape(t.DeviceID)
	if t.ModuleID != "" {
		path += "/modules/" + escape(t.ModuleID)
	}
	return path
}

// escape escapes an id as Microsoft's SDKs do: everything that is not a letter,
// a digit or one of -_.~, a plus too, which some servers read as a blank.
func escape(id string) string {
	return strings.ReplaceAll(url.QueryEscape(id), "+", "%20")
}

// appendPatch writes the body of a twin patch; the sections are JSON already.
func appendPatch(b []byte, p hub.Patch) []byte {
	b = append(b, '{')
	if p.Tags != nil {
		b = append(append(b, `"tags":`...), p.Tags...)
	}
	if p.Desired != nil {
		if p.Tags != nil {
			b = append(b, ',')
		}
		b = append(append(b, `"properties":{"desired":`...), p.Desired...)
		b = append(b, '}')
	}
	return append(b, '}')
}

// appendCall writes the body of a method call; the payload is JSON already.
func appendCall(b []byte, call hub.Call) []byte {
	name, err := json.Marshal(call.Method)
	if err != nil {
		panic("a string always has a JSON form: " + err.Error())
	}
	b = append(append(b, `{"methodName":`...), name...)
	if call.Payload != nil {
		b = append(append(b, `,"payload":`...), call.Payload...)
	}
	b = append(b, `,"connectTimeoutInSeconds":`...)
	b = strconv.AppendInt(b, seconds(call.ConnectTimeout), 10)
	b = append(b, `,"responseTimeoutInSeconds":`...)
	b = strconv.AppendInt(b, seconds(call.ResponseTimeout), 10)
	return append(b, '}')
}

// seconds rounds up: a device gets at least the time that the plan gives it.
func seconds(d time.Duration) int64 {
	return int64((d + time.Second - 1) / time.Second)
}
