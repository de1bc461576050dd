# A long-lived R process that holds the data and runs glmnet on request, so that only the call
# itself is on the clock. Reads one command a line on stdin, answers one line of JSON on stdout.
# Driven by adapters/r_solver.py.
suppressPackageStartupMessages(library(glmnet))
glmnet.control(fdev = 0, devmax = 1)  # all lambdas are asked for

X <- NULL
Y <- NULL
folds <- NULL
fits <- list()  # of the last run, one for each response

read_npy <- function(path) {
  con <- file(path, "rb")
  on.exit(close(con))
  magic <- readBin(con, "raw", 8)
  stopifnot(identical(magic[2:6], charToRaw("NUMPY")))
  length_bytes <- if (magic[7] == as.raw(1)) 2 else 4
  size <- readBin(con, "integer", 1, size = length_bytes, signed = length_bytes == 4,
                  endian = "little")
  header <- rawToChar(readBin(con, "raw", size))
  descr <- sub(".*'descr': *'([^']*)'.*", "\\1", header)
  shape <- sub(".*'shape': *\\(([^)]*)\\).*", "\\1", header)
  shape <- as.numeric(Filter(nzchar, trimws(strsplit(shape, ",")[[1]])))
  values <- switch(descr,
    "<f8" = readBin(con, "double", prod(shape), size = 8, endian = "little"),
    "<i4" = readBin(con, "integer", prod(shape), size = 4, endian = "little"),
    stop("read_npy: descr must be <f8 or <i4, got ", descr))
  stopifnot(length(values) == prod(shape))
  if (length(shape) < 2) return(values)
  fortran <- grepl("'fortran_order': *True", header)
  matrix(values, shape[1], shape[2], byrow = !fortran)
}

write_npy <- function(values, path) {  # a vector of doubles
  header <- sprintf("{'descr': '<f8', 'fortran_order': False, 'shape': (%d,), }", length(values))
  header <- paste0(header, strrep(" ", (-(10 + nchar(header) + 1)) %% 64), "\n")
  con <- file(path, "wb")
  on.exit(close(con))
  writeBin(as.raw(c(0x93, utf8ToInt("NUMPY"), 1, 0)), con)
  writeBin(nchar(header), con, size = 2, endian = "little")
  writeBin(charToRaw(header), con)
  writeBin(as.double(values), con, endian = "little")
}

json_text <- function(x) paste0('"', gsub('(["\\\\])', "\\\\\\1", gsub("[[:cntrl:]]", " ", x)), '"')

answer <- function(...) {
  fields <- list(...)
  body <- paste(sprintf('"%s": %s', names(fields), unlist(fields)), collapse = ", ")
  cat("{", body, "}\n", sep = "")
  flush(stdout())
}

seconds <- function() {
  spent <- proc.time()
  c(wall = as.numeric(Sys.time()), cpu = sum(spent[c("user.self", "sys.self")]))
}

calls <- 1  # of each(r) on the clock

# The time of one each(r) for every response; its results are `fits`.
timed <- function(each) {
  fits <<- list()
  gc()  # the garbage of earlier runs is not this run's time
  start <- seconds()
  for (k in seq_len(calls)) found <- lapply(seq_len(ncol(Y)), each)
  spent <- seconds() - start
  fits <<- found
  spent / calls
}

# Answers the time of the calls for all responses. R counts processor time in milliseconds: what
# takes less than 20 is timed anew, so often that it takes 100.
over_responses <- function(each) {
  warned <- character()
  withCallingHandlers({
    spent <- timed(each)
    if (calls == 1 && spent[["cpu"]] < 0.02) {
      calls <<- ceiling(0.1 / max(spent[["cpu"]], 0.001))
      spent <- timed(each)
    }
  }, warning = function(w) {
    warned <<- c(warned, conditionMessage(w))
    invokeRestart("muffleWarning")
  })
  answer(wall = sprintf("%.6f", spent[["wall"]]), cpu = sprintf("%.6f", spent[["cpu"]]),
         warnings = json_text(paste(unique(warned), collapse = "; ")))
}

settings <- function(grid, alpha, thresh, maxit) {
  grid <- read_npy(grid)
  alpha <- read_npy(alpha)
  function(r) {
    options <- list(X, Y[, r], lambda = grid[r, ], alpha = alpha[r], standardize = FALSE)
    if (thresh != "default") options$thresh <- as.numeric(thresh)
    if (maxit != "default") options$maxit <- as.numeric(maxit)
    options
  }
}

commands <- list(
  load = function(folder) {
    X <<- read_npy(file.path(folder, "X.npy"))
    Y <<- read_npy(file.path(folder, "Y.npy"))
    path <- file.path(folder, "fold_id.npy")
    if (file.exists(path)) folds <<- read_npy(path) + 1
    gc()
    answer(rows = nrow(X))
  },
  path = function(...) {
    options <- settings(...)
    over_responses(function(r) do.call(glmnet, options(r)))
  },
  cv = function(...) {
    options <- settings(...)
    over_responses(function(r) do.call(cv.glmnet, c(options(r), list(foldid = folds))))
  },
  # The last run: every fit of a path, of cv.glmnet the one at lambda.min.
  write = function(folder) {
    put <- function(name, values) write_npy(values, file.path(folder, paste0(name, ".npy")))
    put("lengths", sapply(fits, function(f) length(f$lambda)))
    if (inherits(fits[[1]], "cv.glmnet")) {
      best <- sapply(fits, function(f) f$index["min", 1])
      put("best", best - 1)
      put("cv_error", unlist(lapply(fits, function(f) f$cvm)))
      put("lambdas", unlist(lapply(fits, function(f) f$lambda)))
      path <- lapply(fits, function(f) f$glmnet.fit)
      beta <- do.call(cbind, Map(function(f, k) f$beta[, k, drop = FALSE], path, best))
      put("intercept", unlist(Map(function(f, k) f$a0[k], path, best)))
    } else {
      put("lambdas", unlist(lapply(fits, function(f) f$lambda)))
      beta <- do.call(cbind, lapply(fits, function(f) f$beta))
      put("intercept", unlist(lapply(fits, function(f) f$a0)))
    }
    beta <- as(beta, "CsparseMatrix")
    put("p", nrow(beta))
    put("values", beta@x)
    put("indices", beta@i)
    put("indptr", beta@p)
    answer(fits = ncol(beta))
  })

# The first call of a session compiles R code and loads methods: not glmnet's usual time.
invisible(cv.glmnet(matrix(sin(1:2000), 100), cos(1:100), nfolds = 3))
invisible(cv.glmnet(matrix(sin(1:2000), 100), cos(1:100), nfolds = 3, alpha = 0))
answer(ready = 1)

input <- file("stdin", "r")
while (length(line <- readLines(input, 1)) == 1) {
  words <- strsplit(line, "\t")[[1]]
  tryCatch(do.call(commands[[words[1]]], as.list(words[-1])),
           error = function(e) answer(error = json_text(conditionMessage(e))))
}
