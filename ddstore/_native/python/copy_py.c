/*
 * Rows of PostgreSQL's binary COPY, from and to whole columns.
 *
 * The format: "PGCOPY\n\377\r\n\0", int32 flags, int32 extension length; then rows of an int16 field count and,
 * per field, an int32 length (-1: NULL) and that many bytes; an int16 -1 ends it. Integers are big-endian.
 */
#include "module.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define MAX_COLUMNS 1664 /* PostgreSQL's own limit on a target list */
#define MAX_WIDTH 64	 /* of a fixed-width field */

static const uint8_t SIGNATURE[11] = {'P', 'G', 'C', 'O', 'P', 'Y', '\n', 0xff, '\r', '\n', 0};

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define SWAP(bits, v) __builtin_bswap##bits(v)
#else
#define SWAP(bits, v) (v)
#endif

static inline void put16(uint8_t *p, uint16_t v)
{
	v = SWAP(16, v);
	memcpy(p, &v, 2);
}

static inline void put32(uint8_t *p, uint32_t v)
{
	v = SWAP(32, v);
	memcpy(p, &v, 4);
}

static inline uint16_t get16(const uint8_t *p)
{
	uint16_t v;
	memcpy(&v, p, 2);
	return SWAP(16, v);
}

static inline uint32_t get32(const uint8_t *p)
{
	uint32_t v;
	memcpy(&v, p, 4);
	return SWAP(32, v);
}

/* Between network and native order for a 2, 4 or 8 byte integer; copy anything else as it is. */
static inline void swap_copy(uint8_t *to, const uint8_t *from, size_t width)
{
	if (width == 8) {
		uint64_t v;
		memcpy(&v, from, 8);
		v = SWAP(64, v);
		memcpy(to, &v, 8);
	} else if (width == 4) {
		uint32_t v = get32(from);
		memcpy(to, &v, 4);
	} else if (width == 2) {
		uint16_t v = get16(from);
		memcpy(to, &v, 2);
	} else {
		memcpy(to, from, width);
	}
}

/* ---- encode ---------------------------------------------------------------------------------------------- */

typedef struct {
	char kind; /* '1' '2' '4' '8' 'u' fixed; 'v' text, 'j' jsonb: variable; 'c' the same bytes in every row */
	size_t width; /* of a fixed column, in bytes */
	Py_buffer data;
	Py_buffer valid;   /* .obj == NULL: no NULLs */
	Py_buffer offsets; /* .obj == NULL: not a variable column */
} source;

static void release_sources(source *columns, Py_ssize_t n)
{
	for (Py_ssize_t i = 0; i < n; i++) {
		PyBuffer_Release(&columns[i].data);
		PyBuffer_Release(&columns[i].valid);
		PyBuffer_Release(&columns[i].offsets);
	}
	PyMem_Free(columns);
}

/* Read one (kind, data, valid, offsets) tuple; false with an exception set when it cannot feed rows < stop. */
static bool open_source(PyObject *item, source *column, Py_ssize_t stop)
{
	const char *kind;
	Py_ssize_t kind_len;
	PyObject *data, *valid, *offsets;

	if (!PyTuple_Check(item)) {
		PyErr_SetString(PyExc_TypeError, "a column is a tuple (kind, data, valid, offsets)");
		return false;
	}
	if (!PyArg_ParseTuple(item, "s#OOO", &kind, &kind_len, &data, &valid, &offsets))
		return false;
	column->kind = kind_len == 1 ? kind[0] : '\0';
	switch (column->kind) {
	case '1': case '2': case '4': case '8':
		column->width = (size_t)(column->kind - '0');
		break;
	case 'u':
		column->width = 16;
		break;
	case 'v': case 'j': case 'c':
		column->width = 0;
		break;
	default:
		PyErr_Format(PyExc_ValueError, "unknown column kind '%s'", kind);
		return false;
	}
	if (PyObject_GetBuffer(data, &column->data, PyBUF_C_CONTIGUOUS) < 0)
		return false;
	if (column->width && (size_t)column->data.len / column->width < (size_t)stop) {
		PyErr_SetString(PyExc_ValueError, "a column holds fewer rows than asked for");
		return false;
	}
	if (column->kind == 'c' && column->data.len > INT32_MAX) {
		PyErr_SetString(PyExc_ValueError, "a field is longer than 2 GiB");
		return false;
	}
	if (valid != Py_None) {
		if (PyObject_GetBuffer(valid, &column->valid, PyBUF_C_CONTIGUOUS) < 0)
			return false;
		if (column->valid.itemsize != 1 || column->valid.len < stop) {
			PyErr_SetString(PyExc_ValueError, "a validity mask is one byte per row");
			return false;
		}
	}
	if (column->kind == 'v' || column->kind == 'j') {
		if (offsets == Py_None) {
			PyErr_SetString(PyExc_ValueError, "a variable column needs offsets");
			return false;
		}
		if (PyObject_GetBuffer(offsets, &column->offsets, PyBUF_C_CONTIGUOUS) < 0)
			return false;
		if (column->offsets.itemsize != 8 || column->offsets.len / 8 < stop + 1) {
			PyErr_SetString(PyExc_ValueError, "offsets are int64, one more than there are rows");
			return false;
		}
	}
	return true;
}

static inline bool is_null(const source *column, size_t row)
{
	return column->valid.buf && !((const uint8_t *)column->valid.buf)[row];
}

/* The bytes of a variable field; false when the offsets lead outside the column's bytes. */
static inline bool variable_field(const source *column, size_t row, const uint8_t **bytes, size_t *len)
{
	int64_t at[2];
	memcpy(at, (const uint8_t *)column->offsets.buf + row * 8, 16);
	if (at[0] < 0 || at[1] < at[0] || at[1] > (int64_t)column->data.len || at[1] - at[0] >= INT32_MAX)
		return false;
	*bytes = (const uint8_t *)column->data.buf + at[0];
	*len = (size_t)(at[1] - at[0]);
	return true;
}

/* An upper bound of the bytes that rows start..stop-1 take; SIZE_MAX when a variable field is out of bounds. */
static size_t encoded_size(const source *columns, size_t n, size_t start, size_t stop)
{
	size_t rows = stop - start, size = rows * 2;

	for (size_t i = 0; i < n; i++) {
		const source *column = &columns[i];
		if (column->kind != 'v' && column->kind != 'j') {
			size_t width = column->kind == 'c' ? (size_t)column->data.len : column->width;
			if (rows && width + 4 > (size_t)PY_SSIZE_T_MAX / 2 / rows)
				return SIZE_MAX;
			size += rows * (width + 4);
			if (size > (size_t)PY_SSIZE_T_MAX / 2)
				return SIZE_MAX;
			continue;
		}
		for (size_t row = start; row < stop; row++) {
			const uint8_t *bytes;
			size_t len;
			if (!variable_field(column, row, &bytes, &len))
				return SIZE_MAX;
			size += len + 5;
		}
	}
	return size;
}

/* Write the rows; NULL when they do not fit, which takes another thread changing the arrays meanwhile. */
static uint8_t *encode_rows(const source *columns, size_t n, size_t start, size_t stop, uint8_t *p, const uint8_t *end)
{
	for (size_t row = start; row < stop; row++) {
		if (end - p < 2)
			return NULL;
		put16(p, (uint16_t)n);
		p += 2;
		for (size_t i = 0; i < n; i++) {
			const source *column = &columns[i];
			const uint8_t *bytes = column->data.buf;
			size_t len = column->width, prefix = column->kind == 'j';

			if (is_null(column, row)) {
				if (end - p < 4)
					return NULL;
				put32(p, UINT32_MAX);
				p += 4;
				continue;
			}
			if (column->kind == 'c')
				len = (size_t)column->data.len;
			else if (len)
				bytes += row * len;
			else if (!variable_field(column, row, &bytes, &len))
				return NULL;
			if ((size_t)(end - p) < 4 + prefix + len)
				return NULL;
			put32(p, (uint32_t)(len + prefix));
			p += 4;
			if (prefix)
				*p++ = 1; /* jsonb's wire version */
			if (column->width)
				swap_copy(p, bytes, len);
			else
				memcpy(p, bytes, len);
			p += len;
		}
	}
	return p;
}

PyObject *ddpy_copy_encode(PyObject *self, PyObject *args)
{
	PyObject *list, *tuple, *result = NULL;
	Py_ssize_t start, stop, n;
	source *columns;
	size_t size;
	uint8_t *p, *end;

	(void)self;
	if (!PyArg_ParseTuple(args, "O!nn", &PyList_Type, &list, &start, &stop))
		return NULL;
	tuple = PyList_AsTuple(list); /* opening a buffer may run Python code, which may change the list */
	if (!tuple)
		return NULL;
	n = PyTuple_GET_SIZE(tuple);
	if (start < 0 || stop < start || n < 1 || n > MAX_COLUMNS) {
		PyErr_SetString(PyExc_ValueError, "rows run from start to stop, over 1 to 1664 columns");
		Py_DECREF(tuple);
		return NULL;
	}
	columns = PyMem_Calloc((size_t)n, sizeof *columns);
	if (!columns) {
		Py_DECREF(tuple);
		return PyErr_NoMemory();
	}
	for (Py_ssize_t i = 0; i < n; i++)
		if (!open_source(PyTuple_GET_ITEM(tuple, i), &columns[i], stop))
			goto done;

	Py_BEGIN_ALLOW_THREADS
	size = encoded_size(columns, (size_t)n, (size_t)start, (size_t)stop);
	Py_END_ALLOW_THREADS
	if (size > (size_t)PY_SSIZE_T_MAX) {
		PyErr_SetString(PyExc_ValueError, "offsets do not fit the column's bytes");
		goto done;
	}
	result = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
	if (!result)
		goto done;
	p = (uint8_t *)PyBytes_AS_STRING(result);
	end = p + size;
	Py_BEGIN_ALLOW_THREADS
	p = encode_rows(columns, (size_t)n, (size_t)start, (size_t)stop, p, end);
	Py_END_ALLOW_THREADS
	if (!p) {
		Py_CLEAR(result);
		PyErr_SetString(PyExc_RuntimeError, "the columns changed while they were being encoded");
		goto done;
	}
	_PyBytes_Resize(&result, p - (uint8_t *)PyBytes_AS_STRING(result));
done:
	release_sources(columns, n);
	Py_DECREF(tuple);
	return result;
}

/* ---- decode ---------------------------------------------------------------------------------------------- */

typedef struct {
	Py_ssize_t width;  /* bytes of every field; -1: variable */
	size_t bytes;	   /* variable: of all fields */
	bool nulls;
	uint8_t *data;
	uint8_t *valid;
	int64_t *offsets;
	PyObject *held[3]; /* the bytearrays behind data, valid, offsets */
} sink;

/* Walk the rows once; NULL when the stream is sound, else what is wrong with it. */
static const char *measure(const uint8_t *p, const uint8_t *end, sink *columns, size_t n, size_t *rows)
{
	for (;;) {
		uint16_t fields;
		if (end - p < 2)
			return "the COPY stream ends before its trailer";
		fields = get16(p);
		p += 2;
		if (fields == UINT16_MAX)
			return p == end ? NULL : "bytes follow the trailer of the COPY stream";
		if (fields != n)
			return "a row has another number of fields than asked for";
		for (size_t i = 0; i < n; i++) {
			uint32_t len;
			if (end - p < 4)
				return "the COPY stream ends inside a row";
			len = get32(p);
			p += 4;
			if (len == UINT32_MAX) {
				columns[i].nulls = true;
				continue;
			}
			if (len > INT32_MAX || (size_t)(end - p) < len)
				return "a field is longer than the COPY stream";
			if (columns[i].width >= 0 && (size_t)columns[i].width != len)
				return "a field has another width than asked for";
			columns[i].bytes += len;
			p += len;
		}
		++*rows;
	}
}

/* Fill the columns from a stream that measure() found sound; the bytes are immutable, so it still is. */
static void fill(const uint8_t *p, sink *columns, size_t n, size_t rows)
{
	for (size_t row = 0; row < rows; row++) {
		p += 2;
		for (size_t i = 0; i < n; i++) {
			sink *column = &columns[i];
			uint32_t len = get32(p);
			bool null = len == UINT32_MAX;

			p += 4;
			if (null)
				len = 0;
			column->valid[row] = !null;
			if (column->width < 0) {
				int64_t at = column->offsets[row];
				memcpy(column->data + at, p, len);
				column->offsets[row + 1] = at + len;
			} else {
				uint8_t *to = column->data + row * (size_t)column->width;
				if (null)
					memset(to, 0, (size_t)column->width);
				else
					swap_copy(to, p, (size_t)column->width);
			}
			p += len;
		}
	}
}

/* A fresh bytearray of count * width bytes. */
static PyObject *new_block(size_t count, size_t width)
{
	if (width && count > (size_t)PY_SSIZE_T_MAX / width)
		return PyErr_NoMemory();
	return PyByteArray_FromStringAndSize(NULL, (Py_ssize_t)(count * width));
}

static bool allocate(sink *column, size_t rows)
{
	size_t bytes = column->width < 0 ? column->bytes : rows;

	column->held[0] = new_block(bytes, column->width < 0 ? 1 : (size_t)column->width);
	column->held[1] = new_block(rows, 1);
	if (!column->held[0] || !column->held[1])
		return false;
	column->data = (uint8_t *)PyByteArray_AS_STRING(column->held[0]);
	column->valid = (uint8_t *)PyByteArray_AS_STRING(column->held[1]);
	if (column->width < 0) {
		column->held[2] = new_block(rows + 1, 8);
		if (!column->held[2])
			return false;
		column->offsets = (int64_t *)(void *)PyByteArray_AS_STRING(column->held[2]);
		column->offsets[0] = 0;
	}
	return true;
}

/* (data, valid): per column a bytearray, or (bytearray, int64 offsets) for a variable one; None: no NULLs. */
static PyObject *build_blocks(const sink *columns, Py_ssize_t n)
{
	PyObject *data = PyList_New(n), *valid = PyList_New(n);

	if (!data || !valid)
		goto fail;
	for (Py_ssize_t i = 0; i < n; i++) {
		const sink *column = &columns[i];
		PyObject *block = column->offsets ? PyTuple_Pack(2, column->held[0], column->held[2])
						  : Py_NewRef(column->held[0]);
		if (!block)
			goto fail;
		PyList_SET_ITEM(data, i, block);
		PyList_SET_ITEM(valid, i, Py_NewRef(column->nulls ? column->held[1] : Py_None));
	}
	return Py_BuildValue("(NN)", data, valid);
fail:
	Py_XDECREF(data);
	Py_XDECREF(valid);
	return NULL;
}

/* Skip the header; NULL when these bytes are no binary COPY stream that can be read. */
static const uint8_t *after_header(const uint8_t *p, size_t len)
{
	if (len < 19 || memcmp(p, SIGNATURE, sizeof SIGNATURE) != 0)
		return NULL;
	if (get32(p + 11) >> 16) /* critical flags: none is known, and OIDs are history */
		return NULL;
	if (get32(p + 15) > len - 19)
		return NULL;
	return p + 19 + get32(p + 15);
}

PyObject *ddpy_copy_decode(PyObject *self, PyObject *args)
{
	PyObject *bytes, *list, *result = NULL;
	Py_ssize_t n;
	sink *columns;
	const uint8_t *p, *end;
	const char *wrong;
	size_t rows = 0;

	(void)self;
	if (!PyArg_ParseTuple(args, "SO!", &bytes, &PyList_Type, &list))
		return NULL;
	n = PyList_GET_SIZE(list);
	if (n < 1 || n > MAX_COLUMNS) {
		PyErr_SetString(PyExc_ValueError, "a COPY stream is read as 1 to 1664 columns");
		return NULL;
	}
	columns = PyMem_Calloc((size_t)n, sizeof *columns);
	if (!columns)
		return PyErr_NoMemory();
	for (Py_ssize_t i = 0; i < n; i++) {
		PyObject *item = PyList_GET_ITEM(list, i);
		columns[i].width = PyLong_Check(item) ? PyLong_AsSsize_t(item) : 0;
		if (columns[i].width == 0 || columns[i].width < -1 || columns[i].width > MAX_WIDTH) {
			PyErr_SetString(PyExc_ValueError, "a width is a number of bytes, or -1 for a variable one");
			goto done;
		}
	}

	end = (const uint8_t *)PyBytes_AS_STRING(bytes) + PyBytes_GET_SIZE(bytes);
	p = after_header((const uint8_t *)PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes));
	if (!p) {
		PyErr_SetString(PyExc_ValueError, "not a binary COPY stream");
		goto done;
	}
	Py_BEGIN_ALLOW_THREADS
	wrong = measure(p, end, columns, (size_t)n, &rows);
	Py_END_ALLOW_THREADS
	if (wrong) {
		PyErr_SetString(PyExc_ValueError, wrong);
		goto done;
	}
	for (Py_ssize_t i = 0; i < n; i++)
		if (!allocate(&columns[i], rows))
			goto done;
	Py_BEGIN_ALLOW_THREADS
	fill(p, columns, (size_t)n, rows);
	Py_END_ALLOW_THREADS
	result = build_blocks(columns, n);
done:
	for (Py_ssize_t i = 0; i < n; i++)
		for (int k = 0; k < 3; k++)
			Py_XDECREF(columns[i].held[k]);
	PyMem_Free(columns);
	return result;
}
