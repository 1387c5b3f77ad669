// Package swagger holds requests and answers of the service API to Microsoft's
// own description of it, wherever they come from.
//
// The description is corrected where it is known to differ from the wire, see
// [Corrections], and its objects are closed: an answer may not have a member
// that the description does not have.
package swagger

import (
	"bytes"
	"context"
	_ "embed" // for the description
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"

	"github.com/getkin/kin-openapi/openapi2"
	"github.com/getkin/kin-openapi/openapi2conv"
	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
)

//go:embed iothub-service-2020-09-30.swagger.json
var source []byte

// ErrUnknown says that the description has no such operation.
var ErrUnknown = errors.New("the description has no such operation")

// Description is the service's description, ready to judge. It is safe for
// concurrent use.
type Description struct {
	doc    *openapi3.T
	router routers.Router
}

// Load reads the description and corrects it.
func Load() (*Description, error) { return load(Corrections()) }

func load(corrections []Correction) (*Description, error) {
	var old openapi2.T
	if err := json.Unmarshal(source, &old); err != nil {
		return nil, fmt.Errorf("read the swagger: %w", err)
	}
	old.Host = "localhost"
	doc, err := openapi2conv.ToV3(&old)
	if err != nil {
		return nil, fmt.Errorf("convert the swagger: %w", err)
	}
	for _, c := range corrections {
		c.apply(doc)
	}
	closed := false
	for _, ref := range doc.Components.Schemas {
		if len(ref.Value.Properties) > 0 {
			ref.Value.AdditionalProperties = openapi3.AdditionalProperties{Has: &closed}
		}
	}
	router, err := legacy.NewRouter(doc)
	if err != nil {
		return nil, fmt.Errorf("route by the swagger: %w", err)
	}
	return &Description{doc: doc, router: router}, nil
}

// Operations lists what is described, as "VERB /path", in order.
func (d *Description) Operations() []string {
	var list []string
	for path, item := range d.doc.Paths.Map() {
		for verb := range item.Operations() {
			list = append(list, verb+" "+path)
		}
	}
	slices.Sort(list)
	return list
}

// Exchange is a request that was answered.
type Exchange struct {
	Method string
	URL    *url.URL // its host does not matter
	Header http.Header
	Body   []byte

	Status       int
	AnswerHeader http.Header
	Answer       []byte
}

// Verdict is what is to be said of an exchange.
type Verdict struct {
	Operation string // as the description names it, such as "GET /devices/{id}"
	Request   error  // what of the request is not as described; nil for nothing
	Answer    error  // the same of the answer
}

// Err is everything that is not as described; nil for nothing.
func (v Verdict) Err() error { return errors.Join(v.Request, v.Answer) }

// Check judges an exchange. It fails when it cannot: with [ErrUnknown] when the
// description has no such operation.
func (d *Description) Check(ctx context.Context, x Exchange) (Verdict, error) {
	r, err := x.request(ctx)
	if err != nil {
		return Verdict{}, err
	}
	found, params, err := d.router.FindRoute(r)
	if err != nil {
		return Verdict{}, fmt.Errorf("%s %s: %w: %w", x.Method, x.URL.Path, ErrUnknown, err)
	}
	v := Verdict{Operation: x.Method + " " + found.Path}
	in := &openapi3filter.RequestValidationInput{
		Request: r, PathParams: params, Route: found,
		Options: &openapi3filter.Options{MultiError: true, AuthenticationFunc: openapi3filter.NoopAuthenticationFunc},
	}
	if err := openapi3filter.ValidateRequest(ctx, in); err != nil {
		v.Request = fmt.Errorf("%s: the request %s is not as described: %w", v.Operation, x.Body, err)
	}
	out := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: in, Status: x.Status, Header: x.AnswerHeader, Body: io.NopCloser(bytes.NewReader(x.Answer)),
		Options: &openapi3filter.Options{MultiError: true, IncludeResponseStatus: true},
	}
	if err := openapi3filter.ValidateResponse(ctx, out); err != nil {
		v.Answer = fmt.Errorf("%s: the answer %d %s is not as described: %w", v.Operation, x.Status, x.Answer, err)
	}
	return v, nil
}

// request builds the request anew, at the host that the description is for.
func (x Exchange) request(ctx context.Context) (*http.Request, error) {
	u := *x.URL
	u.Scheme, u.Host = "https", "localhost"
	r, err := http.NewRequestWithContext(ctx, x.Method, u.String(), bytes.NewReader(x.Body))
	if err != nil {
		return nil, fmt.Errorf("repeat a request: %w", err)
	}
	r.Header = x.Header.Clone()
	if len(x.Body) == 0 {
		// Clients send a type with every request, which is not described for
		// those that have no body.
		r.Header.Del("Content-Type")
	}
	return r, nil
}

// Transport checks every exchange that next makes and hands the verdict to
// report. It changes none of them. Report must be safe for concurrent use.
func (d *Description) Transport(next http.RoundTripper, report func(Exchange, Verdict, error)) http.RoundTripper {
	return checking{description: d, next: next, report: report}
}

type checking struct {
	description *Description
	next        http.RoundTripper
	report      func(Exchange, Verdict, error)
}

// RoundTrip makes the exchange and checks it.
func (c checking) RoundTrip(r *http.Request) (*http.Response, error) {
	x := Exchange{Method: r.Method, URL: r.URL, Header: r.Header.Clone()}
	if r.Body != nil {
		var err error
		if x.Body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		onward := r.Clone(r.Context())
		onward.Body = io.NopCloser(bytes.NewReader(x.Body))
		r = onward
	}
	res, err := c.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	x.Status, x.AnswerHeader = res.StatusCode, res.Header
	x.Answer, err = io.ReadAll(res.Body)
	if err = errors.Join(err, res.Body.Close()); err != nil {
		return nil, err
	}
	res.Body = io.NopCloser(bytes.NewReader(x.Answer))
	v, err := c.description.Check(r.Context(), x)
	c.report(x, v, err)
	return res, nil
}
