/* The Python module `ddstore._native._ddcore`: thin, buffers in and bytes out, the GIL released around the work. */
#include "module.h"

#include "btae.h"
#include "encode.h"
#include "inet.h"
#include "tube.h"

static PyObject *corrupt_error;

static PyObject *raise(const dd_error *err)
{
	PyErr_SetString(err->status == DD_CORRUPT || err->status == DD_UNSUPPORTED ? corrupt_error
			: err->status == DD_NOSPACE					    ? PyExc_MemoryError
											    : PyExc_ValueError,
			err->what);
	return NULL;
}

static void *aligned_workspace(size_t size, void **block)
{
	*block = PyMem_RawMalloc(size + 15);
	return *block == NULL ? PyErr_NoMemory() : (void *)(((uintptr_t)*block + 15) & ~(uintptr_t)15);
}

/* Other columns of a segment, as Python gives them. */
typedef struct {
	dd_side_use use[DD_SIDES_MOST];
	Py_buffer values[DD_SIDES_MOST];
	unsigned count;
} sides;

static void sides_release(sides *s)
{
	for (unsigned k = 0; k < s->count; k++)
		PyBuffer_Release(&s->values[k]);
	s->count = 0;
}

/* From a sequence of (crc, type, values), for an encoder with (.., scale, offset, low) behind; None is no sides. */
static bool sides_parse(PyObject *given, bool encoding, uint32_t n, sides *s)
{
	Py_ssize_t count = given == NULL || given == Py_None ? 0 : PySequence_Size(given);

	s->count = 0;
	if (count < 0 || count > (Py_ssize_t)DD_SIDES_MOST)
		goto bad;
	for (Py_ssize_t k = 0; k < count; k++) {
		PyObject *item = PySequence_GetItem(given, k);
		dd_side_use *use = &s->use[k];
		int type = 0;
		bool parsed;

		*use = (dd_side_use){0};
		if (item == NULL || !PyTuple_Check(item)) {
			Py_XDECREF(item);
			goto bad;
		}
		parsed = encoding ? PyArg_ParseTuple(item, "Iiy*ddI", &use->crc, &type, &s->values[k], &use->scale,
						     &use->offset, &use->low)
				  : PyArg_ParseTuple(item, "Iiy*", &use->crc, &type, &s->values[k]);
		Py_DECREF(item);
		if (!parsed) {
			sides_release(s);
			return false;
		}
		s->count++;
		if (type < DD_INT16 || type > DD_FLOAT64 || use->low > 62 ||
		    s->values[k].len != (Py_ssize_t)n * (Py_ssize_t)dd_type_width((dd_type)type))
			goto bad;
		use->given = (dd_side){use->crc, (dd_type)type, s->values[k].buf};
	}
	return true;
bad:
	sides_release(s);
	if (!PyErr_Occurred())
		PyErr_SetString(PyExc_ValueError, "bad columns to condition on");
	return false;
}

static PyObject *decode_column(PyObject *self, PyObject *args)
{
	Py_buffer residual, latents = {0}, model = {0};
	PyObject *others = NULL;
	int trusting = 0;
	dd_side given[DD_SIDES_MOST];
	sides s = {.count = 0};
	PyObject *values = NULL, *valid = NULL, *result = NULL;
	long type, want;
	unsigned int n;
	dd_error err = {DD_OK, NULL, NULL};
	dd_column_info info;
	dd_model m;
	void *block = NULL, *workspace;
	dd_status status;

	(void)self;
	if (!PyArg_ParseTuple(args, "y*z*z*lIl|Op", &residual, &latents, &model, &type, &n, &want, &others,
			      &trusting))
		return NULL;
	if (n == 0 || n > DD_MAX_ROWS || want < -1 || want > (long)n) {
		PyErr_SetString(PyExc_ValueError, "row count out of range");
		goto done;
	}
	if (!sides_parse(others, false, n, &s))
		goto done;
	for (unsigned k = 0; k < s.count; k++)
		given[k] = s.use[k].given;
	if (want == -1)
		want = (long)n;
	if (model.buf != NULL && dd_model_open(model.buf, (size_t)model.len, &m, &err) != DD_OK) {
		raise(&err);
		goto done;
	}
	if (dd_column_peek(residual.buf, (size_t)residual.len, model.buf ? &m : NULL, &info, &err) != DD_OK) {
		raise(&err);
		goto done;
	}
	if (info.n != n || info.type != (dd_type)type) {
		PyErr_SetString(corrupt_error, "the column's type or count is not its segment's");
		goto done;
	}
	workspace = aligned_workspace(info.workspace, &block);
	values = PyByteArray_FromStringAndSize(NULL, want * (Py_ssize_t)dd_type_width(info.type));
	valid = info.has_invalid ? PyByteArray_FromStringAndSize(NULL, want) : Py_NewRef(Py_None);
	if (workspace == NULL || values == NULL || valid == NULL)
		goto done;
	Py_BEGIN_ALLOW_THREADS;
	status = (trusting ? dd_column_decode_trusting : dd_column_decode)(
		residual.buf, (size_t)residual.len, latents.buf, (size_t)latents.len, model.buf ? &m : NULL, given, s.count,
		info.type, n, (uint32_t)want, PyByteArray_AS_STRING(values),
		info.has_invalid ? (uint8_t *)PyByteArray_AS_STRING(valid) : NULL, workspace, info.workspace, &err);
	Py_END_ALLOW_THREADS;
	if (status != DD_OK)
		raise(&err);
	else
		result = PyTuple_Pack(2, values, valid);
done:
	PyMem_RawFree(block);
	Py_XDECREF(values);
	Py_XDECREF(valid);
	sides_release(&s);
	PyBuffer_Release(&residual);
	PyBuffer_Release(&latents);
	PyBuffer_Release(&model);
	return result;
}

static PyObject *peek_column(PyObject *self, PyObject *args)
{
	Py_buffer residual;
	dd_error err = {DD_OK, NULL, NULL};
	dd_column_info info;
	dd_status status;
	PyObject *crcs;

	(void)self;
	if (!PyArg_ParseTuple(args, "y*", &residual))
		return NULL;
	status = dd_column_peek(residual.buf, (size_t)residual.len, NULL, &info, &err);
	PyBuffer_Release(&residual);
	if (status != DD_OK)
		return raise(&err);
	crcs = PyTuple_New(info.sides);
	if (crcs == NULL)
		return NULL;
	for (unsigned k = 0; k < info.sides; k++)
		PyTuple_SET_ITEM(crcs, k, PyLong_FromUnsignedLong(info.side_crc[k]));
	return Py_BuildValue("{s:i,s:i,s:I,s:I,s:O,s:O,s:I,s:I,s:O,s:N}", "type", (int)info.type, "mode", (int)info.mode, "coder", info.coder, "n",
			     (unsigned)info.n, "has_nulls", info.has_invalid ? Py_True : Py_False, "needs_model",
			     info.needs_model ? Py_True : Py_False, "model_crc", (unsigned)info.model_crc, "escapes",
			     (unsigned)info.escapes, "exact", info.exact ? Py_True : Py_False, "sides", crcs);
}

static PyObject *peek_head(PyObject *self, PyObject *args)
{
	Py_buffer head;
	dd_error err = {DD_OK, NULL, NULL};
	dd_column c;
	dd_reader r;
	dd_status status;

	(void)self;
	if (!PyArg_ParseTuple(args, "y*", &head))
		return NULL;
	status = dd_header_read(head.buf, (size_t)head.len, &c, &r, &err);
	PyBuffer_Release(&head);
	if (status != DD_OK)
		return raise(&err);
	return Py_BuildValue("{s:i,s:i,s:I,s:I,s:I,s:i,s:L,s:L,s:K,s:d,s:d,s:K,s:I,s:I,s:y#,s:I}", "type", (int)c.type, "mode", (int)c.mode,
			     "coder", c.coder, "flags", c.flags, "n", (unsigned)c.n, "lattice", (int)c.lattice, "mul", (long long)c.mul, "add",
			     (long long)c.add, "den", (unsigned long long)c.den, "step", c.step, "offset", c.offset, "width",
			     (unsigned long long)c.width, "stride", c.stride, "sides", c.sides, "weights",
			     (const char *)c.weight, (Py_ssize_t)sizeof c.weight, "model_crc", (unsigned)c.model_crc);
}

static bool fits(const Py_buffer *b, uint32_t n, Py_ssize_t width)
{
	return b->buf == NULL || b->len == (Py_ssize_t)n * width;
}

/* Returns None when the result would exceed `capacity`. */
static PyObject *encode_column(PyObject *self, PyObject *args, PyObject *kwargs)
{
	static char *names[] = {"type", "mode", "coder", "flags", "n",	   "lattice", "mul",   "add",	  "den",   "step",    "offset",
				"drift", "centre", "base",  "scale", "index",	"classes", "bits", "latents", "model", "levels",
				"capacity", "modelled", "deep", "width", "stride", "sides", "unit", "weights", "cascade", NULL};
	Py_buffer index = {0}, classes = {0}, bits = {0}, latents = {0}, model = {0}, levels = {0}, weights = {0};
	PyObject *out = NULL;
	int type, mode, lattice, centre, cascade = 1;
	long long mul, add, drift, base, scale;
	unsigned long long den, width = 1;
	PyObject *others = NULL;
	sides s = {.count = 0};
	Py_ssize_t capacity;
	size_t len = 0, need;
	dd_error err = {DD_OK, NULL, NULL};
	dd_column c = {0};
	dd_model m;
	void *block = NULL, *workspace;
	dd_status status;

	(void)self;
	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "iiIIIiLLKddLiLLz*z*z*z*z*z*n|IIKIOfz*p", names, &type, &mode, &c.coder, &c.flags, &c.n,
					 &lattice, &mul, &add, &den, &c.step, &c.offset, &drift, &centre, &base, &scale,
					 &index, &classes, &bits, &latents, &model, &levels, &capacity, &c.modelled, &c.deep, &width, &c.stride, &others, &c.unit,
					 &weights, &cascade))
		return NULL;
	c.type = (dd_type)type;
	c.mode = (dd_mode)mode;
	c.cascade = c.mode == DD_MODE_ADAPTIVE && cascade;
	c.lattice = (dd_lattice_kind)lattice;
	c.centre = (dd_centre)centre;
	c.mul = mul;
	c.add = add;
	c.den = den;
	c.drift = drift;
	c.base = base;
	c.scale = scale;
	c.level = levels.buf;
	c.levels = (uint32_t)(levels.len / 8);
	c.width = width;
	if (!sides_parse(others, true, c.n, &s))
		goto done;
	c.sides = s.count;
	memcpy(c.side, s.use, sizeof c.side);
	if (c.sides > 0)
		c.flags |= DD_FLAG_SIDES;
	if (type < DD_INT16 || type > DD_FLOAT64 || mode < 0 || mode > DD_MODE_ADAPTIVE || capacity < 0 ||
	    dd_coder_numbered(c.coder) == NULL || !dd_header_fits(&c) || dd_header_impossible(&c) ||
	    (c.coder == DD_CODER_NET && (c.drift != 0 || !(c.unit >= 0 && c.unit <= 1e18f))) ||
	    (weights.buf != NULL && weights.len != (Py_ssize_t)sizeof c.weight) ||
	    (levels.buf != NULL) != (lattice == DD_LATTICE_LEVELS) || levels.len % 8 != 0 ||
	    (levels.buf != NULL && (levels.len == 0 || levels.len / 8 > DD_MAX_LEVELS)) || index.buf == NULL || !fits(&index, c.n, 8) || !fits(&classes, c.n, 1) || !fits(&bits, c.n, 8) ||
	    (bits.buf == NULL && (mode == DD_MODE_RAW || classes.buf != NULL)) ||
	    (classes.buf != NULL) != ((c.flags & DD_FLAG_EXCEPTIONS) != 0)) {
		PyErr_SetString(PyExc_ValueError, "bad arguments to encode_column");
		goto done;
	}
	if (model.buf != NULL && dd_model_open(model.buf, (size_t)model.len, &m, &err) != DD_OK) {
		raise(&err);
		goto done;
	}
	c.weighed = weights.buf != NULL;
	if (c.weighed)
		memcpy(c.weight, weights.buf, sizeof c.weight);
	c.low = DD_LOW_AUTO;
	need = dd_encode_workspace(&c, model.buf ? &m : NULL);
	workspace = aligned_workspace(need, &block);
	out = PyBytes_FromStringAndSize(NULL, capacity);
	if (workspace == NULL || out == NULL)
		goto done;
	Py_BEGIN_ALLOW_THREADS;
	status = dd_column_encode(&c, index.buf, classes.buf, bits.buf, latents.buf, (size_t)latents.len,
				  model.buf ? &m : NULL, (uint8_t *)PyBytes_AS_STRING(out), (size_t)capacity, &len,
				  workspace, need, &err);
	Py_END_ALLOW_THREADS;
	if (status == DD_OK) {
		_PyBytes_Resize(&out, (Py_ssize_t)len);
	} else {
		Py_CLEAR(out);
		if (status == DD_NOSPACE)
			out = Py_NewRef(Py_None);
		else
			raise(&err);
	}
done:
	PyMem_RawFree(block);
	sides_release(&s);
	PyBuffer_Release(&index);
	PyBuffer_Release(&classes);
	PyBuffer_Release(&bits);
	PyBuffer_Release(&latents);
	PyBuffer_Release(&model);
	PyBuffer_Release(&levels);
	PyBuffer_Release(&weights);
	return out;
}

static PyObject *describe_model(PyObject *self, PyObject *args)
{
	Py_buffer data;
	dd_error err = {DD_OK, NULL, NULL};
	dd_model model;
	const char *kind = "btae";
	dd_btae btae = {0};
	dd_net net = {0};
	uint64_t bits[2];
	double moments[2];
	dd_status status;

	(void)self;
	if (!PyArg_ParseTuple(args, "y*", &data))
		return NULL;
	status = dd_model_open(data.buf, (size_t)data.len, &model, &err);
	if (status == DD_OK) {
		if (dd_net_open(model.section, model.section_len, &net, NULL) == DD_OK)
			kind = "net";
		else if (dd_inet_open(model.section, model.section_len, &net, NULL) == DD_OK)
			kind = "inet";
		else
			status = dd_btae_open(model.section, model.section_len, &btae, &err);
	}
	PyBuffer_Release(&data);
	if (status != DD_OK)
		return raise(&err);
	bits[0] = strcmp(kind, "btae") == 0 ? dd_btae_mean_bits(&btae) : net.mean_bits;
	bits[1] = strcmp(kind, "btae") == 0 ? dd_btae_std_bits(&btae) : net.std_bits;
	memcpy(moments, bits, sizeof moments);
	return Py_BuildValue("sIIdd", kind, (unsigned)dd_btae_window(&btae),
			     (unsigned)dd_btae_latents(&btae), moments[0], moments[1]);
}

static PyObject *tube(PyObject *self, PyObject *args)
{
	Py_buffer low, width, cost;
	PyObject *path = NULL;
	uint8_t *scratch = NULL;
	Py_ssize_t n;
	bool sound;

	(void)self;
	if (!PyArg_ParseTuple(args, "y*y*y*", &low, &width, &cost))
		return NULL;
	n = width.len;
	sound = n >= 2 && n <= (Py_ssize_t)DD_MAX_ROWS && low.len == n * 8 &&
		cost.len == DD_TUBE_COSTS * DD_TUBE_COSTS * (Py_ssize_t)sizeof(float);
	for (Py_ssize_t i = 0; sound && i < n; i++)
		sound = ((uint8_t *)width.buf)[i] >= 1 && ((uint8_t *)width.buf)[i] <= DD_TUBE_WIDTH;
	if (!sound) {
		PyErr_SetString(PyExc_ValueError, "bad arguments to tube");
		goto done;
	}
	path = PyByteArray_FromStringAndSize(NULL, n * 8);
	scratch = PyMem_RawMalloc(DD_TUBE_SCRATCH((size_t)n));
	if (path == NULL || scratch == NULL) {
		Py_CLEAR(path);
		PyErr_NoMemory();
		goto done;
	}
	Py_BEGIN_ALLOW_THREADS;
	dd_tube(low.buf, width.buf, (uint32_t)n, cost.buf, scratch, (int64_t *)(void *)PyByteArray_AS_STRING(path));
	Py_END_ALLOW_THREADS;
done:
	PyMem_RawFree(scratch);
	PyBuffer_Release(&low);
	PyBuffer_Release(&width);
	PyBuffer_Release(&cost);
	return path;
}

static PyObject *crc32c(PyObject *self, PyObject *args)
{
	Py_buffer data;
	unsigned int crc = 0;

	(void)self;
	if (!PyArg_ParseTuple(args, "y*|I", &data, &crc))
		return NULL;
	crc = dd_crc32c(crc, data.buf, (size_t)data.len);
	PyBuffer_Release(&data);
	return PyLong_FromUnsignedLong(crc);
}

static PyMethodDef methods[] = {
	{"decode_column", decode_column, METH_VARARGS, "First `want` rows of a column: (values, valid or None)."},
	{"peek_column", peek_column, METH_VARARGS, "What a column's residual bytes say about themselves."},
	{"peek_head", peek_head, METH_VARARGS, "What a column's first bytes, header included, say about its lattice."},
	{"encode_column", (PyCFunction)(void (*)(void))encode_column, METH_VARARGS | METH_KEYWORDS,
	 "Lattice indices to bytes; None when they would exceed `capacity`."},
	{"describe_model", describe_model, METH_VARARGS, "A model's kind, window, latent bits, mean and standard deviation."},
	{"tube", tube, METH_VARARGS, "The cheapest path of lattice indices inside a tube."},
	{"crc32c", crc32c, METH_VARARGS, "CRC32C of a buffer."},
	{"classify", ddpy_classify, METH_VARARGS, "The row class of each value, and how many are no plain values."},
	{"quantize", (PyCFunction)(void (*)(void))ddpy_quantize, METH_VARARGS | METH_KEYWORDS,
	 "The index of the bin that holds each value."},
	{"reconstruct", (PyCFunction)(void (*)(void))ddpy_reconstruct, METH_VARARGS | METH_KEYWORDS,
	 "The value of each lattice index, as decoding gives it."},
	{"shortest", ddpy_shortest, METH_VARARGS, "Doubles of the shortest decimals that read as these float32."},
	{"violations", ddpy_violations, METH_VARARGS, "Where the bound fails, and how often."},
	{"exact_sum", ddpy_exact_sum, METH_VARARGS, "The exact sum of the finite values, and how many are not."},
	{"roughness", ddpy_roughness, METH_VARARGS, "Order-0 entropy of the differences of indices, in bits in all."},
	{"foretold", ddpy_foretold, METH_VARARGS, "Which share of the moves of indices what came before foretells."},
	{"phase_roughness", ddpy_phase_roughness, METH_VARARGS, "The same for bins shifted by a part of their width."},
	{"find_grids", ddpy_find_grids, METH_VARARGS, "The grid of all values and that of almost all."},
	{"btae_predict", ddpy_btae_predict, METH_VARARGS, "Predictions of a BTAE section, int32 with 12 fractional bits."},
	{"inet_trace", ddpy_inet_trace, METH_VARARGS, "Inputs, outputs, scales and targets of an INET section, row by row."},
	{"net_trace", ddpy_net_trace, METH_VARARGS, "Inputs, scales and outputs of a DNET section, row by row."},
	{"copy_encode", ddpy_copy_encode, METH_VARARGS, "Rows of a binary COPY."},
	{"copy_decode", ddpy_copy_decode, METH_VARARGS, "Columns of a binary COPY."},
	{NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
	PyModuleDef_HEAD_INIT, "_ddcore", "The DDStore core.", -1, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__ddcore(void)
{
	PyObject *m = PyModule_Create(&module);

	if (m == NULL)
		return NULL;
	corrupt_error = PyErr_NewException("ddstore._native.CorruptError", PyExc_ValueError, NULL);
	if (corrupt_error == NULL || PyModule_AddObjectRef(m, "CorruptError", corrupt_error) < 0 ||
	    PyModule_AddIntConstant(m, "FORMAT_VERSION", DD_FORMAT_VERSION) < 0 ||
	    PyModule_AddIntConstant(m, "MAX_ROWS", DD_MAX_ROWS) < 0 ||
	    PyModule_AddObjectRef(m, "WITH_BSC", dd_coder_bsc.encode != NULL ? Py_True : Py_False) < 0) {
		Py_DECREF(m);
		return NULL;
	}
	return m;
}
